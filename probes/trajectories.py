"""Valid trajectories: does a greedy completion of a held-out prompt stay legal, and does it arrive?

NextLat, section 4.1 and Appendix F.1 (counts legal ones); Vafa et al. 2024 (counts arrivals).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.generate import generate
from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import MAX_ROWS, end_of, outcomes, world_of
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import Task, check_count

__all__ = ["Trajectories"]


@dataclass(frozen=True, kw_only=True)
class Trajectories(Probe):
    """Greedy generation from held-out prompts, at most `task.max_new_tokens` tokens. Two rates,
    always both: a subject that always ends at once is 100% legal and never arrives. `reached` asks
    for purpose as well as for knowledge of the map.

    legal: no illegal token before `end`; an `end` away from the goal is not held against it, which
    is the published reading. reached: legal, and ended at the goal.
    """

    num_trials: int = 6_400

    name: ClassVar[str] = "trajectories"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("legal", True, "share", "completions without an illegal token"),
        Metric("reached", True, "share", "legal completions that end at the goal"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"world"})
    catches: ClassVar[tuple[str, ...]] = (
        "uniform",
        "accept_everything",
        "always_end",
        "legal_walker",
        "forgetful",
        "history_hash",
        "wrong_map",
    )
    misses: ClassVar[tuple[str, ...]] = ("noisy_state", "ideal_learner")

    def __post_init__(self) -> None:
        check_count(self, "num_trials")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        world, end, pad = world_of(task), end_of(task), task.vocab.pad
        prompts = task.prompts("test", 0, self.num_trials)
        completions = generate(
            subject, prompts, task.max_new_tokens, end=end, pad=pad, batch=MAX_ROWS
        )
        legal, reached = outcomes(world, prompts, completions, end)
        why = Counter({"beyond the split": self.num_trials - len(prompts)})
        yield share_measurement("legal", legal, why=why)
        yield share_measurement("reached", reached, why=why)
