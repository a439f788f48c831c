"""Teacher-forced accuracy: given all right tokens before it, is each answer token the likeliest?

Bachmann and Nagarajan 2024 (arXiv 2403.06963): a path-star model may get every token right but the
one decision, the branch, because the tokens it is fed give the others away (the Clever Hans cheat).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import documents, top1
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import LONGEST, Task, check_count

__all__ = ["TeacherForced"]


@dataclass(frozen=True, kw_only=True)
class TeacherForced(Probe):
    """At each scored position of held-out sequences: is the top-1 token the target itself?

    Condition "": the share of all scored positions, its interval clustered by sequence. Condition
    "position=k": at the k-th scored position of each sequence, for k = 1..max_positions; sequences
    with fewer are skipped and counted, and the interval is Wilson's over sequences. Where several
    sequences are of one document, the interval over documents if that is wider.

    Where more than one token may follow, as on a random walk, the true world model is not right
    everywhere either: beside it is how this is to be read.
    """

    num_sequences: int = 1_000
    max_positions: int = 32

    name: ClassVar[str] = "teacher_forced"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", True, "share", "positions where the top-1 token is the target"),
    )
    catches: ClassVar[tuple[str, ...]] = (
        "uniform",
        "accept_everything",
        "always_end",
        "legal_walker",
        "forgetful",
        "history_hash",
        "wrong_map",
        "clever_hans",
    )
    misses: ClassVar[tuple[str, ...]] = (
        "shortest_path_oracle",
        "noisy_state",
        "ideal_learner",
        "window",
        "drifting",
        "counting",
    )

    def __post_init__(self) -> None:
        check_count(self, "num_sequences")
        check_count(self, "max_positions", 0, LONGEST)

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        batch = task.sample("test", 0, self.num_sequences)
        scored = batch.targets >= 0
        right = top1(subject, batch.tokens) == batch.targets  # never where that is -1, unscored
        beyond = {"beyond the split": self.num_sequences - len(batch)}
        counts = scored.sum(axis=1)
        unit = documents(batch)
        hits = right.sum(axis=1)
        yield share_measurement("accuracy", hits, counts, Counter(beyond), unit=unit)
        place = scored.cumsum(axis=1)  # (n, L): the k of each scored position
        for k in range(1, min(self.max_positions, int(place.max(initial=0))) + 1):
            long = counts >= k
            hits = (right & (place == k)).any(axis=1)[long]
            why = Counter(beyond | {"shorter than that": int((~long).sum())})
            where = f"position={k}"
            yield share_measurement("accuracy", hits, None, why, where, unit[long])
