"""Are the hidden states predictable from one another? Transition consistency.

    g[0] = h[t],    g[i] = p(g[i-1], x[t+i]),    g[i] against h[t+i]    for i = 1..k

with p the latent dynamics. NextLat (Teoh et al. 2025, arXiv 2511.05963), section 3: next-token
consistency and transition consistency together make h a belief state; this is the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.report.statistics import normal_interval
from nextlat_bench.subject import LatentDynamics, Subject
from nextlat_bench.tasks._core import Batch, FloatArray, IntArray, Task, check_field

__all__ = ["Transition", "distance_ratio", "kl_divergence", "rollout_positions"]

ROWS_PER_CALL = 64
MAX_FLOATS = 2**24  # of next-token distributions that are held at once


def distance_ratio(predicted: FloatArray, actual: FloatArray, other: FloatArray) -> float:
    """(n, D) three times: mean ||predicted - actual|| / mean ||other - actual||.

    `other` is a random hidden state for each actual one: 0 is exact, and 1 no better than chance.
    nan where all hidden states are alike.
    """
    chance = distances(other, actual).sum()
    return float(distances(predicted, actual).sum() / chance) if chance > 0 else float("nan")


def distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n, D), (n, D) -> (n,): Euclidean, in float64."""
    return np.asarray(np.linalg.norm(a.astype(np.float64) - b, axis=1))


def kl_divergence(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """(n, V) log-probabilities twice -> (n,): KL(p || q) in nats.

    A token with p = 0 counts nothing; one with p > 0 = q makes it infinite.
    """
    log_p, log_q = log_p.astype(np.float64), log_q.astype(np.float64)
    possible = log_p > -np.inf
    difference = np.subtract(log_p, log_q, out=np.zeros_like(log_p), where=possible)
    # rounding may leave equal distributions a hair below 0
    return np.maximum((np.exp(log_p) * difference).sum(axis=1), 0.0)


def rollout_positions(document: IntArray, horizon: int) -> Iterator[tuple[IntArray, IntArray]]:
    """(N, L) document ids, -1 padding -> for i = 0..horizon (rows, ends): the positions that lie i
    steps after some position of the same document. No rollout crosses a boundary at any step."""
    row, end = np.nonzero(document >= 0)
    yield row, end
    for _ in range(horizon):
        inside = end + 1 < document.shape[1]
        row, end = row[inside], end[inside]
        same = document[row, end] == document[row, end + 1]
        row, end = row[same], end[same] + 1
        yield row, end


@dataclass(frozen=True, kw_only=True)
class Transition(Probe):
    """How far the latent dynamics stray from the hidden states they predict, 1..steps ahead.

    Conditions "steps=i". `latent_distance_ratio`: over all positions i steps into a rollout inside
    a held-out sequence, the mean distance between g[i] and h[t+i] against that between h[t+i] and
    another such position drawn at random; 0 is exact. `kl`: over the scored ones, the mean of
    KL(head(h[t+i]) || head(g[i])).
    Intervals are clustered by sequence, and n counts positions. A subject that predicts no next
    hidden state is not applicable.
    What it cannot see: whether h knows anything. Collapsed hidden states have no ratio (nan) and
    a KL of 0, and a code of the whole history is transition-consistent too; read it beside the
    next-token test and the rank.
    """

    name: ClassVar[str] = "transition"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("latent_distance_ratio", False, "ratio", "rollout error / random-pair distance"),
        Metric("kl", False, "nats", "KL(next token from h || next token from the rollout)"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"hidden", "dynamics"})
    catches: ClassVar[tuple[str, ...]] = ()
    misses: ClassVar[tuple[str, ...]] = ()

    num_sequences: int = 256
    steps: int = 4

    def __post_init__(self) -> None:
        check_field(self, "num_sequences", self.num_sequences >= 2, "at least 2")
        check_field(self, "steps", self.steps >= 1, "a positive number")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        if not isinstance(subject, LatentDynamics):
            raise NotApplicable(f"{subject.name} has no hidden states")
        batch = task.sample("test", 0, self.num_sequences)
        hidden = read(subject, batch)
        rollouts = rollout_positions(batch.document, self.steps)
        row, end = next(rollouts)
        at = np.full(batch.document.shape, -1)  # which rollout ends at each position
        guess = hidden[row, end]  # g[0] = h
        for i, (next_row, next_end) in enumerate(rollouts, start=1):
            at[row, end] = np.arange(len(row))
            going = at[next_row, next_end - 1]
            row, end = next_row, next_end
            if len(row) < 2:
                return  # no sequence is this long
            following = subject.predict_hidden(guess[going], batch.tokens[row, end])
            if following is None:
                raise NotApplicable(f"{subject.name} predicts no next hidden state")
            guess, actual = following, hidden[row, end]
            other = actual[(np.arange(len(row)) + rng.integers(1, len(row), len(row))) % len(row)]
            yield ratio_of_sums(
                "latent_distance_ratio",
                distances(guess, actual),
                distances(other, actual),
                row,
                f"steps={i}",
            )
            scored = batch.targets[row, end] >= 0
            divergence = read_out_divergence(subject, actual[scored], guess[scored])
            ones = np.ones_like(divergence)
            yield ratio_of_sums("kl", divergence, ones, row[scored], f"steps={i}")


def read(subject: LatentDynamics, batch: Batch) -> FloatArray:
    """The hidden states of a batch, (N, L, D), a few sequences a call."""
    parts = [
        subject.hidden(batch.tokens[i : i + ROWS_PER_CALL])
        for i in range(0, len(batch), ROWS_PER_CALL)
    ]
    return np.concatenate(parts)


def read_out_divergence(
    subject: LatentDynamics, actual: FloatArray, guess: FloatArray
) -> FloatArray:
    """(n, D), (n, D) -> (n,): KL between what the head reads from each, few rows at a time."""
    if len(actual) == 0:
        return np.empty(0)
    rows = max(1, MAX_FLOATS // subject.read_out(actual[:1]).shape[1])
    return np.concatenate(
        [
            kl_divergence(
                subject.read_out(actual[i : i + rows]), subject.read_out(guess[i : i + rows])
            )
            for i in range(0, len(actual), rows)
        ]
    )


def ratio_of_sums(
    metric: str, above: FloatArray, below: FloatArray, sequence: IntArray, condition: str
) -> Measurement:
    """(n,) three times: sum above / sum below over n positions, and its 95% interval.

    The ratio estimator's standard error over sequences (Cochran 1977, section 6.4); nan where
    there is nothing below, or no more than one sequence.
    """
    n, total = len(above), below.sum()
    if total == 0:
        return Measurement(metric, *[float("nan")] * 3, n=n, condition=condition)
    value = float(above.sum() / total)
    low = high = value
    if np.isfinite(value):
        unit = np.unique(sequence, return_inverse=True)[1]
        residuals = np.bincount(unit, weights=above - value * below)
        low, high = normal_interval(value + residuals * len(residuals) / total)
    return Measurement(metric, value, max(low, 0.0), high, n, condition=condition)
