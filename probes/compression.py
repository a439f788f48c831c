"""Sequence compression: do two histories that lead to one state have the same continuations?

Vafa et al. 2024, section 3.2 and Appendix E; NextLat, section 4.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import (
    MAX_ROWS,
    HistoryPairs,
    end_of,
    held_out_states,
    history_pairs,
    read_in_step,
    room,
)
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    BoolArray,
    Task,
    check_count,
    check_option,
    check_share,
)

__all__ = ["Compression", "Protocol"]

Protocol = Literal["precision", "released"]


@dataclass(frozen=True, kw_only=True)
class Compression(Probe):
    """For each of `num_states` held-out states, two different histories of one length lead there.
    `num_continuations` are sampled after the first, at temperature 1, with the tokens of
    p <= epsilon left out. The state scores 1 if every token of every continuation has p > epsilon
    after the second history, where nothing is left out.

    A continuation grows to `task.max_new_tokens` at most, and with its history no longer than any
    sequence of the task; one that has not ended by then counts by all its tokens.
    protocol "released" mirrors the public NextLat script, for comparison only: the continuations
    are scored after the same history that produced them, and no token is left out in sampling. It
    asks how peaked a subject is, not what it knows of the state.
    """

    num_states: int = 1_000
    num_continuations: int = 30
    epsilon: float = 0.01
    protocol: Protocol = "precision"

    name: ClassVar[str] = "compression"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("precision", True, "share", "states whose continuations survive another history"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"world"})
    catches: ClassVar[tuple[str, ...]] = ("uniform", "history_hash", "forgetful", "wrong_map")
    misses: ClassVar[tuple[str, ...]] = (
        "shortest_path_oracle",
        "accept_everything",
        "always_end",
        "legal_walker",
        "noisy_state",
        "ideal_learner",
    )

    def __post_init__(self) -> None:
        check_count(self, "num_states")
        check_count(self, "num_continuations")
        check_share(self, "epsilon")
        check_option(self, "protocol", get_args(Protocol))

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        (states,) = held_out_states(task, 1, self.num_states, rng)
        batch = max(1, MAX_ROWS // self.num_continuations)
        groups, why = history_pairs(task, states, states, rng, batch)
        why["beyond the split"] = self.num_states - len(states)
        scores = [self._compressed(subject, task, pairs, rng) for pairs in groups]
        yield share_measurement("precision", np.concatenate([*scores, []]), why=why)

    def _compressed(
        self, subject: Subject, task: Task, pairs: HistoryPairs, rng: np.random.Generator
    ) -> BoolArray:
        """(n,): which states have the same continuations after both histories?"""
        released = self.protocol == "released"
        rows = np.arange(len(pairs.first)).repeat(self.num_continuations)
        reading = read_in_step(
            subject.start(pairs.first).select(rows),
            subject.start(pairs.first if released else pairs.second).select(rows),
            room(task, pairs.first),
            end_of(task),
            task.vocab.pad,
            self.epsilon,
            rng,
            min_probability=0.0 if released else self.epsilon,
        )
        accepted = reading.accepted_by_second.reshape(-1, self.num_continuations)
        return np.asarray(accepted.all(axis=1))
