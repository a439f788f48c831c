"""Sequence distinction: are two states told apart by the continuations that only one of them has?

Vafa et al. 2024, section 3.2 and Appendix E.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import (
    MAX_ROWS,
    HistoryPairs,
    accepts,
    end_of,
    held_out_states,
    history_pairs,
    is_legal,
    read_in_step,
    replay,
    room,
    world_of,
)
from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks._core import (
    BoolArray,
    FloatArray,
    IntArray,
    Task,
    World,
    check_count,
    check_share,
)

__all__ = ["Distinction", "true_boundary", "truly_distinguishes"]


def true_boundary(
    world: World, first: IntArray, second: IntArray, max_length: int
) -> tuple[IntArray, IntArray]:
    """(n,), (n,) states -> (m,) which pair, (m, max_length) sequences, padded: all the minimal
    ones, `end` included, that are legal in the first state and at their last token, not before,
    illegal in the second."""
    pair, prefix = np.arange(len(first)), np.empty((len(first), 0), dtype=np.int64)
    pairs, sequences = [], []
    for t in range(max_length):
        legal, shared = world.legal(first), world.legal(second)
        row, token = np.nonzero(legal & ~shared)
        found = np.full((len(row), max_length), world.vocab.pad)
        found[:, :t], found[:, t] = prefix[row], token
        pairs.append(pair[row])
        sequences.append(found)
        row, token = np.nonzero(legal & shared)
        first, second = world.advance(first[row], token), world.advance(second[row], token)
        apart = first != second  # one state from here on: no continuation tells them apart
        pair, prefix = pair[row][apart], np.column_stack((prefix[row], token))[apart]
        first, second = first[apart], second[apart]
    return np.concatenate(pairs), np.concatenate(sequences)


def truly_distinguishes(
    world: World, first: IntArray, second: IntArray, sequences: IntArray, lengths: IntArray
) -> BoolArray:
    """(n,), (n,) states, (n, L) sequences of (n,) lengths -> (2, n): is each legal in the first
    state and not in the second? Is moreover its last token the first that the second refuses?"""
    place, lengths = np.arange(sequences.shape[1]), lengths[:, None]
    allowed = []
    for states in (replay(world, first, sequences), replay(world, second, sequences)):
        legal = [is_legal(world, states[:, t], sequences[:, t]) for t in place]
        allowed.append(np.column_stack(legal) | (place >= lengths))
    true = allowed[0].all(axis=1) & ~allowed[1].all(axis=1)
    return np.stack((true, true & (allowed[1] | (place == lengths - 1)).all(axis=1)))


@dataclass(frozen=True, kw_only=True)
class Distinction(Probe):
    """For `num_pairs` pairs of different held-out states, each after a history of the same length:

    precision: `num_continuations` are sampled after the first history (temperature 1, tokens of
    p <= epsilon left out) and cut at the first token with p <= epsilon after the second. The cut
    ones are the subject's boundary: which share of the different ones truly tells the states apart,
    legal in the first and not in the second?

    exact_precision: which share does so at its last token, where the subject says, not before?

    recall: of the true boundary, the minimal sequences of up to `max_length` tokens (`end`
    included) that only the first state has, which share does the subject accept after the first
    history (every token p > epsilon) and refuse after the second (some token p <= epsilon)? Of
    more than `max_boundary` sequences a random subset that large is asked.

    All are means over pairs; a pair whose boundary is empty is left out of that metric. The
    intervals are the mean's standard error over pairs (`_intervals.share_measurement`).
    """

    num_pairs: int = 1_000
    num_continuations: int = 30
    epsilon: float = 0.01
    max_length: int = 5
    max_boundary: int = 100

    name: ClassVar[str] = "distinction"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("precision", True, "share", "the subject's distinctions that are true"),
        Metric("exact_precision", True, "share", "those first true at their last token"),
        Metric("recall", True, "share", "true distinctions that the subject makes"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"world"})
    catches: ClassVar[tuple[str, ...]] = (
        "shortest_path_oracle",
        "uniform",
        "accept_everything",
        "always_end",
        "forgetful",
        "history_hash",
        "wrong_map",
        "ideal_learner",
    )
    misses: ClassVar[tuple[str, ...]] = ("legal_walker", "noisy_state")

    def __post_init__(self) -> None:
        for name in ("num_pairs", "num_continuations", "max_length", "max_boundary"):
            check_count(self, name)
        check_share(self, "epsilon")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        first, second = held_out_states(task, 2, self.num_pairs, rng)
        different = first != second
        first, second = first[different], second[different]
        batch = max(1, MAX_ROWS // self.num_continuations)
        groups, why = history_pairs(task, first, second, rng, batch)
        why["of one state"] = int((~different).sum())
        why["beyond the split"] = self.num_pairs - len(different)
        precision = [self._precision(subject, task, pairs, rng) for pairs in groups]
        recall = [self._recall(subject, task, pairs, rng) for pairs in groups]
        scores = np.block([[np.empty((2, 0)), *precision], [np.empty((1, 0)), *recall]])
        for metric, values in zip(self.metrics, scores, strict=True):
            empty = np.isnan(values)
            reasons = why + Counter({f"without a boundary for {metric.name}": int(empty.sum())})
            yield share_measurement(metric.name, values[~empty], np.ones((~empty).sum()), reasons)

    def _precision(
        self, subject: Subject, task: Task, pairs: HistoryPairs, rng: np.random.Generator
    ) -> FloatArray:
        """(2, n): the share of each pair's boundary, as the subject sees it, that is true, and
        exactly so."""
        rows = np.arange(len(pairs.first)).repeat(self.num_continuations)
        reading = read_in_step(
            subject.start(pairs.first).select(rows),
            subject.start(pairs.second).select(rows),
            room(task, pairs.first),
            end_of(task),
            task.vocab.pad,
            self.epsilon,
            rng,
            min_probability=self.epsilon,
        )
        cut = reading.accepted_by_first & ~reading.accepted_by_second
        columns = np.column_stack((rows, reading.lengths, reading.tokens))
        boundary = np.unique(columns[cut], axis=0)
        pair, lengths, sequences = boundary[:, 0], boundary[:, 1], boundary[:, 2:]
        right = truly_distinguishes(
            world_of(task), pairs.first_state[pair], pairs.second_state[pair], sequences, lengths
        )
        return _mean_by_pair(pair, right, len(pairs.first))

    def _recall(
        self, subject: Subject, task: Task, pairs: HistoryPairs, rng: np.random.Generator
    ) -> FloatArray:
        """(1, n): the share of each pair's true boundary that the subject finds."""
        max_length = min(self.max_length, room(task, pairs.first))
        pair, sequences = true_boundary(
            world_of(task), pairs.first_state, pairs.second_state, max_length
        )
        order = rng.permutation(len(pair))
        order = order[np.argsort(pair[order], kind="stable")]  # random within each pair
        pair, sequences = pair[order], sequences[order]
        asked = np.arange(len(pair)) - np.searchsorted(pair, pair) < self.max_boundary
        pair, sequences = pair[asked], sequences[asked]
        found = self._accepted(subject.start(pairs.first).select(pair), sequences, task.vocab.pad)
        found &= ~self._accepted(
            subject.start(pairs.second).select(pair), sequences, task.vocab.pad
        )
        return _mean_by_pair(pair, found[None], len(pairs.first))

    def _accepted(self, session: Session, sequences: IntArray, pad: int) -> BoolArray:
        """(n, L) padded sequences -> (n,): does every token have p > epsilon?"""
        accepted = np.ones(len(sequences), dtype=np.bool_)
        for t, tokens in enumerate(sequences.T):
            if t > 0:
                session.advance(sequences[:, t - 1])
            accepted &= (tokens == pad) | accepts(session.log_probs, tokens, self.epsilon)
        return accepted


def _mean_by_pair(pair: IntArray, values: BoolArray, num_pairs: int) -> FloatArray:
    """(m,) pairs, (k, m) values -> (k, num_pairs): nan where a pair has none."""
    total = np.stack([np.bincount(pair, of_one, num_pairs) for of_one in values])
    count = np.bincount(pair, minlength=num_pairs)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
