"""Detours: does a subject still arrive when it is pushed off its route?

Vafa et al. 2024, section 5; NextLat, section 4.1 and Table 1 (p = 0.75).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import MAX_ROWS, end_of, is_legal, outcomes, world_of
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    BoolArray,
    IntArray,
    Task,
    World,
    check_count,
    check_each,
    is_number,
)

__all__ = ["Detours", "Replacement", "drive", "feasible_turns"]

Replacement = Literal["random", "least_likely", "second_most_likely"]


def feasible_turns(world: World, states: IntArray, end: int, remaining: int) -> BoolArray:
    """(n,) states -> (n, V): legal tokens but `end`, after which the end is still at most
    `remaining` tokens away; none where `end` itself is legal."""
    legal = world.legal(states)
    row, token = np.nonzero(legal & ~legal[:, [end]])
    left = world.distance(world.advance(states[row], token))
    feasible = np.zeros_like(legal)
    feasible[row, token] = (left >= 0) & (left <= remaining)
    return feasible


def drive(
    subject: Subject,
    task: Task,
    prompts: IntArray,
    p: float,
    replacement: Replacement,
    rng: np.random.Generator,
) -> IntArray:
    """(n, P) prompts -> (n, max_new) completions, greedy but for the detours: up to and with `end`
    or the first illegal token, then pad."""
    world, end, max_new = world_of(task), end_of(task), task.max_new_tokens
    session, states = subject.start(prompts), world.start(prompts)
    out = np.full((len(prompts), max_new), task.vocab.pad, dtype=np.int64)
    rows = np.arange(len(prompts))  # which output row each session row is
    for t in range(max_new):
        tokens = session.log_probs.argmax(axis=1)
        (pushed,) = np.nonzero(rng.random(len(rows)) < p)
        turns = feasible_turns(world, states[pushed], end, max_new - t - 1)
        turns[np.arange(len(pushed)), tokens[pushed]] = False
        log_probs = np.maximum(session.log_probs[pushed], -1e30)  # -inf: no turn at all
        match replacement:
            case "random":
                preference = rng.random(turns.shape)
            case "least_likely":
                preference = -log_probs
            case "second_most_likely":
                preference = log_probs
        forced = np.where(turns, preference, -np.inf).argmax(axis=1)
        tokens[pushed] = np.where(turns.any(axis=1), forced, tokens[pushed])
        out[rows, t] = tokens
        going = np.flatnonzero((tokens != end) & is_legal(world, states, tokens))
        if t + 1 == max_new or len(going) == 0:
            break
        if len(going) < len(rows):
            session, rows = session.select(going), rows[going]
            states, tokens = states[going], tokens[going]
        session.advance(tokens)
        states = world.advance(states, tokens)
    return out


@dataclass(frozen=True, kw_only=True)
class Detours(Probe):
    """Greedy generation from held-out prompts, step by step. At each step away from the goal, with
    probability p, the subject's token is replaced by another legal turn, one from which the goal
    can still be reached in the tokens that remain; where there is none, nothing is replaced. So
    whoever takes shortest paths arrives at every p.

    replacement "random": any of those turns, uniformly; "least_likely" and "second_most_likely" by
    the subject's own probabilities (the likeliest token, its choice, is never among them).
    Two rates, `legal` and `reached`, as in the probe `trajectories`; forced turns are legal.
    """

    num_trials: int = 1_000
    probabilities: tuple[float, ...] = (0.0, 0.01, 0.1, 0.5, 0.75)
    replacements: tuple[Replacement, ...] = ("random",)

    name: ClassVar[str] = "detours"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("legal", True, "share", "trajectories without an illegal token of the subject's"),
        Metric("reached", True, "share", "legal trajectories that end at the goal"),
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
        known = get_args(Replacement)
        check_each(self, "probabilities", lambda p: is_number(p, 1), "probabilities from 0 to 1")
        check_each(self, "replacements", known.__contains__, f"some of {', '.join(known)}")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        world, end = world_of(task), end_of(task)
        prompts = task.prompts("test", 0, self.num_trials)
        why = Counter({"beyond the split": self.num_trials - len(prompts)})
        for replacement in self.replacements:
            for p in self.probabilities:
                completions = [
                    drive(subject, task, prompts[i : i + MAX_ROWS], p, replacement, rng)
                    for i in range(0, len(prompts), MAX_ROWS)
                ]
                legal, reached = outcomes(world, prompts, np.concatenate(completions), end)
                condition = f"p={p:g},replace={replacement}"
                yield share_measurement("legal", legal, why=why, condition=condition)
                yield share_measurement("reached", reached, why=why, condition=condition)
