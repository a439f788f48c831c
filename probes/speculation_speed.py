"""Self-speculative decoding by the clock: how much faster than our own cached greedy decoding?

NextLat (Teoh et al. 2025, arXiv 2511.05963), Table 3. The baseline keeps its keys and values too:
beside one that reads everything again for each token, anything is fast.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nextlat_bench.probes._core import Measurement, Metric
from nextlat_bench.probes._intervals import ratio_measurement
from nextlat_bench.probes.speculation import Case, DraftingProbe
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import Task, check_count, check_each, is_int

__all__ = ["SpeculationSpeed", "timed_by_turns"]


@dataclass(frozen=True, kw_only=True)
class SpeculationSpeed(DraftingProbe):
    """Greedy completions of held-out prompts, plainly and by drafts, by turns; the same tokens.

    Conditions: "draft=K" or "draft=adaptive" as in `speculation`, then ",batch=B", so many prompts
    at a time: one, where a pass costs what reading the weights costs and drafts are all but free,
    and more, where each costs arithmetic; then ",kind=KIND". Each of the `repeats` turns takes the
    next prompts. The value is plain seconds / speculative seconds over all turns, n the turns, the
    interval the ratio estimator's over them; those whose first prompts are of one document, or the
    same, go together. The only probe that reads a clock: measured once it is kept as all others
    are, but measuring again gives other bytes, and another machine other numbers.
    """

    name: ClassVar[str] = "speculation_speed"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("speedup", True, "ratio", "seconds of plain greedy decoding / of speculative"),
    )

    batches: tuple[int, ...] = (1, 16)
    repeats: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = f"whole numbers from 1 to {self.num_prompts}"
        check_each(self, "batches", lambda b: is_int(b) and 1 <= b <= self.num_prompts, sizes)
        check_count(self, "repeats", 2)

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        for case in self.cases(subject, task):
            for batch in self.batches:
                draft, *kind = case.condition.split(",")
                condition = ",".join([draft, f"batch={batch}", *kind])
                turns = [part(case, turn * batch, batch) for turn in range(self.repeats)]
                plain, speculative = timed_by_turns(
                    [turn.plainly for turn in turns], [turn.speculatively for turn in turns]
                )
                unit = np.array([turn.cluster[0] for turn in turns])
                yield ratio_measurement("speedup", plain, speculative, condition, unit)


def part(case: Case, start: int, count: int) -> Case:
    """The same with `count` of its prompts from `start` on; the first follow the last."""
    at = np.arange(start, start + count) % len(case.prompts)
    return case._replace(prompts=case.prompts[at], cluster=case.cluster[at])


def timed_by_turns(
    one: list[Callable[[], object]], other: list[Callable[[], object]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds (n,) of each turn of one and of the other; who begins alternates, and the first turn
    is taken once before, untimed."""
    one[0]()
    other[0]()
    seconds = np.zeros((2, len(one)))
    for turn, sides in enumerate(zip(one, other, strict=True)):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            begin = time.perf_counter()
            sides[side]()
            seconds[side, turn] = time.perf_counter() - begin
    return seconds[0], seconds[1]
