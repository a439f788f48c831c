"""How undecided is a model? The mean entropy of its next-token distribution."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import skipped
from nextlat_bench.report.statistics import mean_interval
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import FloatArray, Task, check_field

__all__ = ["Entropy", "entropy"]

ROWS = 64  # sequences that a subject reads at once


def entropy(log_probs: FloatArray) -> FloatArray:
    """(..., V) -> (...): in nats; a token of probability 0 adds nothing."""
    p = np.exp(log_probs.astype(np.float64))
    return np.asarray(-np.sum(p * np.where(p > 0, log_probs, 0.0), axis=-1))


@dataclass(frozen=True, kw_only=True)
class Entropy(Probe):
    """The mean entropy of the next token at the scored positions of held-out sequences.

    The interval is clustered by sequence (Cochran 1977, section 6.4).
    """

    num_sequences: int = 1_000

    name: ClassVar[str] = "entropy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("entropy", None, "nats", "of the next token, at scored positions"),
    )
    requires: ClassVar[frozenset[str]] = frozenset()
    catches: ClassVar[tuple[str, ...]] = ("uniform",)
    misses: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_field(self, "num_sequences", self.num_sequences > 0, "a positive number")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        batch = task.sample("test", 0, self.num_sequences)
        scored = batch.targets >= 0
        parts = [
            entropy(subject.log_probs(batch.tokens[i : i + ROWS]))
            for i in range(0, len(batch), ROWS)
        ]
        total, count = (np.concatenate(parts) * scored).sum(axis=1), scored.sum(axis=1)
        value = float(total.sum() / count.sum())
        low, high = mean_interval(value + (total - value * count) / count.mean())
        why = Counter({"beyond the split": self.num_sequences - len(batch)})
        yield Measurement("entropy", value, max(low, 0.0), high, len(batch), *skipped(why))
