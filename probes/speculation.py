"""Self-speculative decoding: how many of its own drafts does a model accept?

NextLat (Teoh et al. 2025, arXiv 2511.05963), Table 3, counts the accepted tokens of a round without
the one that is always accepted; EAGLE (Li et al. 2024, arXiv 2401.15077) counts that one too: tau.
How fast it is stands apart, in `speculation_speed`, since a clock never shows the same twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nextlat_bench.generate import generate
from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.probes._intervals import ratio_measurement, share_measurement
from nextlat_bench.speculate import LONGEST_DRAFT, Trace, drafter_of, speculate
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    IntArray,
    Task,
    check_count,
    check_each,
    check_field,
    check_number,
    is_int,
)
from nextlat_bench.trained import TrainedModel

__all__ = ["Case", "DraftingProbe", "Speculation"]


class Case(NamedTuple):
    """Prompts that are completed under one setting."""

    model: TrainedModel
    prompts: IntArray
    cluster: IntArray  # of each prompt, by `Task.clusters`
    max_new: int
    end: int
    pad: int
    draft: int
    threshold: float
    condition: str

    def plainly(self) -> IntArray:
        return generate(self.model, self.prompts, self.max_new, end=self.end, pad=self.pad)

    def speculatively(self, rng: np.random.Generator | None = None) -> tuple[IntArray, Trace]:
        how: dict[str, Any] = {"end": self.end, "pad": self.pad, "rng": rng}
        how |= {"draft": self.draft, "threshold": self.threshold}
        return speculate(self.model, self.prompts, self.max_new, **how)


@dataclass(frozen=True, kw_only=True)
class DraftingProbe(Probe):
    """What both probes of drafts share: held-out prompts, by kind, under each length of a draft."""

    num_prompts: int = 256
    drafts: tuple[int, ...] = (1, 2, 5, 10)
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_count(self, "num_prompts", 2)
        lengths = f"whole numbers from 1 to {LONGEST_DRAFT}"
        check_each(self, "drafts", lambda k: is_int(k) and 1 <= k <= LONGEST_DRAFT, lengths)
        check_number(self, "threshold", most=1)

    def cases(self, subject: Subject, task: Task) -> Iterator[Case]:
        """Raises NotApplicable where nothing drafts or nothing is to be continued."""
        try:
            drafter_of(subject)
        except ValueError as reason:
            raise NotApplicable(str(reason)) from None
        assert isinstance(subject, TrainedModel)
        if task.parallel:
            raise NotApplicable(f"the answers of {task.name} are read in parallel, none is drafted")
        prompts, vocab = task.prompts("test", 0, self.num_prompts), task.vocab
        kinds, end = task.kinds(prompts), -1 if vocab.end is None else vocab.end
        lengths = [(k, 0.0, f"draft={k}") for k in self.drafts]
        lengths.append((LONGEST_DRAFT, self.threshold, "draft=adaptive"))
        for kind in np.unique(kinds):
            its = prompts[kinds == kind]
            where = its, task.clusters(its), task.max_new_tokens, end, vocab.pad
            for draft, threshold, name in lengths:
                condition = f"{name},kind={kind}" if kind else name
                yield Case(subject, *where, draft, threshold, condition)


@dataclass(frozen=True, kw_only=True)
class Speculation(DraftingProbe):
    """Held-out prompts are completed by `speculate`, greedily or, if `sampled`, at temperature 1.

    Conditions: "draft=K", at most K tokens a draft (MTP and JTP: no more than their horizon), or
    "draft=adaptive", up to 10 and none after one whose own probability was under `threshold`; then
    ",kind=KIND" for each part of a divided split. `acceptance` has ",position=I": of the tokens
    that stood I-th in a draft, the share that was accepted, which all before it must be too.
    A draft is shorter where the sequence ends, so that `bound`, not K + 1, is the most that `tau`
    can be. A task may hold fewer than `num_prompts`: n says how many there were.
    Intervals are clustered by prompt, and prompts of one document (`Task.clusters`) go together.
    Measuring again gives the same records, byte for byte.
    """

    name: ClassVar[str] = "speculation"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accepted", True, "tokens", "accepted drafts a round (the paper's)"),
        Metric("tau", True, "tokens", "tokens a round, the one always accepted too (EAGLE's)"),
        Metric("bound", None, "tokens", "tokens a round at most: drafted ones, and one"),
        Metric("acceptance", True, "share", "accepted ones among the drafts at a position"),
        Metric("passes_per_token", False, "ratio", "passes of the trunk a token; plainly 1"),
        Metric("identical", True, "share", "completions that are plain greedy decoding's"),
    )

    sampled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "sampled", isinstance(self.sampled, bool), "True or False")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        begun: IntArray | None = None
        for case in self.cases(subject, task):
            out, trace = case.speculatively(rng if self.sampled else None)
            tokens = (out != case.pad).sum(axis=1)
            rounds = (trace.drafted >= 0).sum(axis=1)
            accepted = np.maximum(trace.accepted, 0).sum(axis=1)
            drafted = np.maximum(trace.drafted, 0).sum(axis=1)
            for metric, above, below in (
                ("accepted", accepted, rounds),
                ("tau", tokens - 1, rounds),  # the first one is the prompt's
                ("bound", drafted + rounds, rounds),
                ("passes_per_token", trace.passes, tokens),
            ):
                yield ratio_measurement(metric, above, below, case.condition, case.cluster)
            for i in range(1, int(trace.drafted.max(initial=0)) + 1):
                hits, counts = (
                    (facts >= i).sum(axis=1) for facts in (trace.accepted, trace.drafted)
                )
                where = f"{case.condition},position={i}"
                yield share_measurement(
                    "acceptance", hits, counts, condition=where, unit=case.cluster
                )
            if not self.sampled:
                if case.prompts is not begun:  # of another kind
                    begun, plain = case.prompts, case.plainly()
                same = (out == plain).all(axis=1)
                yield share_measurement(
                    "identical", same, condition=case.condition, unit=case.cluster
                )
