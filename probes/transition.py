"""Are the hidden states predictable from one another? Transition consistency.

    g[0] = h[t],    g[i] = p(g[i-1], x[t+i]),    g[i] against h[t+i]    for i = 1..k

with p the latent dynamics. NextLat (Teoh et al. 2025, arXiv 2511.05963): next-token
consistency and transition consistency together make h a belief state; this is the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe, unmeasured
from nextlat_bench.probes._intervals import ratio_measurement
from nextlat_bench.probes._sampling import documents
from nextlat_bench.probes._states import read, states_of
from nextlat_bench.subject import LatentSubject, Subject
from nextlat_bench.tasks._core import (
    LONGEST,
    BoolArray,
    FloatArray,
    IntArray,
    Task,
    check_count,
)

__all__ = ["Transition", "kl_divergence", "rollouts"]

MAX_FLOATS = 2**24  # of next-token distributions that are held at once


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
    return np.asarray(np.maximum((np.exp(log_p) * difference).sum(axis=1), 0.0))


def rollouts(document: IntArray, steps: int) -> Iterator[tuple[BoolArray, IntArray, IntArray]]:
    """(N, L) document ids, -1 padding -> for i = 1..steps: which of the rollouts at step i - 1 go
    on (at step 0 one starts at every position), then the rows and the positions that those reach.

    A rollout ends with its document, so none crosses a boundary at any step.
    """
    continues = np.zeros(document.shape, dtype=np.bool_)
    continues[:, :-1] = document[:, 1:] == document[:, :-1]
    row, at = np.nonzero(document >= 0)
    for _ in range(steps):
        going = continues[row, at]
        row, at = row[going], at[going] + 1
        yield going, row, at


@dataclass(frozen=True, kw_only=True)
class Transition(Probe):
    """How far the latent dynamics stray from the hidden states they predict, 1..steps ahead.

    Conditions "steps=i". `latent_distance_ratio`: over all positions i steps into a rollout inside
    a held-out sequence, the mean distance between g[i] and h[t+i] against that between h[t+i] and
    another such position drawn at random; 0 is exact. `kl`: over the scored ones, the mean of
    KL(head(h[t+i]) || head(g[i])).
    Intervals are clustered by sequence, those of one document together, and n counts positions. A
    subject that predicts no next hidden state is not applicable.
    What it cannot see: whether h knows anything. Collapsed hidden states have no ratio and
    a KL of 0, and a code of the whole history is transition-consistent too; read it beside the
    next-token test and the rank.
    """

    name: ClassVar[str] = "transition"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("latent_distance_ratio", False, "ratio", "rollout error / random-pair distance"),
        Metric("kl", False, "nats", "KL(next token from h || next token from the rollout)"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"hidden", "dynamics"})

    num_sequences: int = 256
    steps: int = 4

    def __post_init__(self) -> None:
        check_count(self, "num_sequences", 2)
        check_count(self, "steps", most=LONGEST)

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        model, batch = states_of(subject), task.sample("test", 0, self.num_sequences)
        used = batch.document >= 0
        guess = hidden = read(model, batch.tokens, used)  # g[0] = h, row by row
        unit = documents(batch)
        number = used.cumsum().reshape(used.shape) - 1  # (N, L): of each position's hidden state
        for i, (going, row, at) in enumerate(rollouts(batch.document, self.steps), start=1):
            n, condition = len(row), f"steps={i}"
            if n < 2:
                for metric in self.metrics:
                    yield unmeasured(metric.name, "no sequence is this long", condition)
                continue
            following = model.predict_hidden(guess[going], batch.tokens[row, at])
            if following is None:
                raise NotApplicable(f"{subject.name} predicts no next hidden state")
            guess, actual = following, hidden[number[row, at]]
            other = actual[(np.arange(n) + rng.integers(1, n, n)) % n]  # never itself
            error, chance = distances(guess, actual), distances(other, actual)
            yield ratio_measurement("latent_distance_ratio", error, chance, condition, unit[row])
            scored = batch.targets[row, at] >= 0
            divergence = read_out_divergence(model, actual[scored], guess[scored])
            every = np.ones_like(divergence)
            yield ratio_measurement("kl", divergence, every, condition, unit[row[scored]])


def read_out_divergence(
    subject: LatentSubject, actual: FloatArray, guess: FloatArray
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
