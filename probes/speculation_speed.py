"""Self-speculative decoding by the clock: how much faster than our own cached greedy decoding?

NextLat (Teoh et al. 2025, arXiv 2511.05963), Table 3. The baseline keeps its keys and values too:
beside one that reads everything again for each token, anything is fast.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric
from nextlat_bench.probes.speculation import DraftingProbe
from nextlat_bench.report.statistics import normal_interval
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import Task, check_count

__all__ = ["SpeculationSpeed", "quotients"]


@dataclass(frozen=True, kw_only=True)
class SpeculationSpeed(DraftingProbe):
    """Greedy completions of held-out prompts, plainly and by drafts, by turns; the same tokens.

    Conditions as in `speculation`. The value is the mean over the repeats of plain seconds /
    speculative seconds, n the repeats. The only probe that reads a clock: measured once it is kept
    as all others are, but measuring again gives other bytes, and another machine other numbers.
    """

    name: ClassVar[str] = "speculation_speed"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("speedup", True, "ratio", "seconds of plain greedy decoding / of speculative"),
    )

    repeats: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "repeats", 2)

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        for case in self.cases(subject, task):
            values = quotients(case.plainly, case.speculatively, self.repeats)
            low, high = normal_interval(values)
            yield Measurement(
                "speedup", float(values.mean()), low, high, self.repeats, condition=case.condition
            )


def quotients(one: Callable[[], object], other: Callable[[], object], repeats: int) -> np.ndarray:
    """Seconds of one / seconds of the other in each repeat; who begins alternates, and the first
    turn of each is not timed."""
    one()
    other()
    found = []
    for turn in range(repeats):
        seconds = {}
        for side in (one, other) if turn % 2 == 0 else (other, one):
            begin = time.perf_counter()
            side()
            seconds[side] = time.perf_counter() - begin
        found.append(seconds[one] / seconds[other])
    return np.array(found)
