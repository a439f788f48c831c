"""What the presets share."""

from typing import Any

from nextlat_bench import registry
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes.accuracy import Accuracy
from nextlat_bench.probes.rank import Rank
from nextlat_bench.probes.spectrum import Spectrum
from nextlat_bench.probes.teacher_forced import TeacherForced
from nextlat_bench.probes.transition import Transition
from nextlat_bench.run import Scale

__all__ = ["chosen", "looking_ahead", "of_answers"]


def chosen(objective: str, settings: dict[str, dict[str, Any]]) -> Any:
    """The objective with a preset's parameters for it, or else for the one that it is a kind of."""
    kind = registry.load("objectives", objective)
    names = [getattr(parent, "name", "") for parent in kind.__mro__]
    return kind(**next((settings[name] for name in names if name in settings), {}))


def looking_ahead(horizon: int, **nextlat: Any) -> dict[str, dict[str, Any]]:
    """Settings under which all objectives look equally far ahead, and NextLat's other ones."""
    ahead = {"horizon": horizon}
    return {"nextlat": ahead | nextlat, "mtp": ahead, "jtp": ahead}


def of_answers(scale: Scale, trials: int, paper_trials: int) -> tuple[Probe, ...]:
    """The probes of a task whose prompts have one answer, right or wrong as a whole."""
    if scale == "smoke":
        return (
            Accuracy(num_trials=100),
            TeacherForced(num_sequences=100),
            Rank(num_positions=1_024),
            Spectrum(num_positions=1_024),
            Transition(num_sequences=64, steps=2),
        )
    return (
        Accuracy(num_trials=paper_trials if scale == "paper" else trials),
        TeacherForced(),
        Rank(num_positions=65_536 if scale == "paper" else 16_384),
        Spectrum(num_positions=65_536 if scale == "paper" else 16_384),
        Transition(),
    )
