"""The subjects with known answers by name: probes are tested on them before they are believed."""

from collections.abc import Callable
from typing import Any

from nextlat_bench import scripted
from nextlat_bench.registry import check_name
from nextlat_bench.subject import Subject
from nextlat_bench.taggers import known_tagger
from nextlat_bench.tasks._core import Task

__all__ = ["KNOWN", "known_subject"]


def _ideal_learner(task: Task) -> Subject:
    """A perfect learner of random taxi walks: the exact distribution of the training data."""
    from nextlat_bench.ideal import IdealLearner  # SciPy only where it is asked for

    return IdealLearner(task)


_SCRIPTED: tuple[Any, ...] = (
    scripted.Oracle,
    scripted.ShortestPathOracle,
    scripted.Uniform,
    scripted.AcceptEverything,
    scripted.AlwaysEnd,
    scripted.LegalWalker,
    scripted.Forgetful,
    scripted.HistoryHash,
    scripted.NoisyState,
    scripted.WrongMap,
    scripted.CleverHans,
)
KNOWN: dict[str, Callable[[Task], Subject]] = {s.name: s for s in _SCRIPTED} | {
    "ideal_learner": _ideal_learner
}


def known_subject(name: str, task: Task) -> Subject:
    """A subject with known answers; an unknown name, or a task without a world, is a ValueError.

    A parallel task has subjects of its own: those of nextlat_bench.taggers.
    """
    if task.parallel:
        return known_tagger(name, task)
    return KNOWN[check_name("subject", name, list(KNOWN))](task)
