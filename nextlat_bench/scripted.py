"""Subjects with known answers: next-token distributions that are written down, not learned.

What each believes of a task's world, right or wrong, is all that it knows; the answers of parallel
tasks are those of nextlat_bench.taggers.
"""

from abc import abstractmethod
from dataclasses import replace

import numpy as np

from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks._core import BoolArray, FloatArray, IntArray, Task, World

__all__ = [
    "AcceptEverything",
    "AlwaysEnd",
    "CleverHans",
    "Forgetful",
    "HistoryHash",
    "LegalWalker",
    "NoisyState",
    "Oracle",
    "Scripted",
    "ShortestPathOracle",
    "Uniform",
    "WrongMap",
]

NUDGE = 1e-9  # too little to be seen in a probability
SEEN = 4096  # training sequences from which a subject knows what answers there are


class _ScriptedSession(Session):
    """The prefixes read so far and, once the prompt is complete, the states they led to."""

    def __init__(
        self,
        subject: "Scripted",
        prefix: IntArray,  # (n, T)
        states: IntArray | None,  # (n,)
        log_probs: FloatArray | None = None,
    ) -> None:
        self.subject, self.prefix, self.states = subject, prefix, states
        self.log_probs = subject.next_token(prefix, states) if log_probs is None else log_probs

    def advance(self, tokens: IntArray) -> None:
        self.prefix = np.column_stack((self.prefix, tokens))
        if self.states is None:
            self.states = self.subject.replay(self.prefix)
        else:
            self.states = self.subject.world.advance(self.states, tokens)
        self.log_probs = self.subject.next_token(self.prefix, self.states)

    def select(self, rows: IntArray) -> "_ScriptedSession":
        states = None if self.states is None else self.states[rows]
        return _ScriptedSession(self.subject, self.prefix[rows], states, self.log_probs[rows])


class Scripted(Subject):
    """A subject whose next-token distribution is written down instead of learned.

    Every prefix has a distribution: inside the prompt it is uniform over the vocabulary; where a
    subject allows nothing (the end state, the dead state) all mass lies on `end`, or on the
    padding token where the vocabulary has no `end`.

    `nudge`: nats added to the tokens that lead nearer to the end, so that among equals the greedy
    choice has a purpose and does not follow the order of the vocabulary.
    """

    nudge = 0.0

    def __init__(self, task: Task, world: World | None = None) -> None:
        """`world`: the world that the subject believes in, by default the task's own."""
        believed = world or task.world()
        if believed is None:
            raise ValueError(f"{type(task).__name__} has no world: no subject of it is known")
        self.world = believed
        self.vocab_size = len(task.vocab)
        self.end = task.vocab.end
        self.lost = task.vocab.pad if self.end is None else self.end
        self.prompt_length = task.prompts("train", 0, 1).shape[1]

    @abstractmethod
    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray | FloatArray:
        """(n, T), (n,) -> (n, V): proportional to the probabilities of the next token."""

    def start(self, prompts: IntArray) -> Session:
        return _ScriptedSession(self, prompts, self.replay(prompts))

    def replay(self, prefix: IntArray) -> IntArray | None:
        """(n, T) -> (n,): the states that the prefixes lead to; None inside the prompt."""
        if prefix.shape[1] < self.prompt_length:
            return None
        states = self.world.start(prefix[:, : self.prompt_length])
        for tokens in prefix[:, self.prompt_length :].T:
            states = self.world.advance(states, tokens)
        return states

    def next_token(self, prefix: IntArray, states: IntArray | None) -> FloatArray:
        """(n, T), (n,) -> (n, V): log-probabilities, -inf where the probability is 0."""
        if states is None:
            return np.full((len(prefix), self.vocab_size), -np.log(self.vocab_size))
        weights = self.weights(prefix, states)
        total = weights.sum(axis=1)
        row, token = np.nonzero(weights)
        out = np.full(weights.shape, -np.inf)
        out[row, token] = np.log(weights[row, token] / total[row])
        out[total == 0, self.lost] = 0.0
        return out + self.nudge * self.nearer(states) if self.nudge else out

    def turns(self, states: IntArray) -> BoolArray:
        """(n,) -> (n, V): the legal tokens other than `end`."""
        turns: BoolArray = np.arange(self.vocab_size) != self.end
        return self.world.legal(states) & turns

    def nearer(self, states: IntArray) -> BoolArray:
        """(n,) -> (n, V): the legal tokens that lead nearer to the end."""
        row, token = np.nonzero(self.world.legal(states))
        after = self.world.distance(self.world.advance(states[row], token))
        found = (after >= 0) & (after < self.world.distance(states)[row])
        nearer = np.zeros((len(states), self.vocab_size), dtype=np.bool_)
        nearer[row[found], token[found]] = True
        return nearer


class Oracle(Scripted):
    """Uniform over what the world allows."""

    name = "oracle"
    nudge = NUDGE

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray | FloatArray:
        return self.world.legal(states)


class ShortestPathOracle(Scripted):
    """Uniform over the legal tokens that lead nearer to the end."""

    name = "shortest_path_oracle"

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray:
        return self.nearer(states)


class Uniform(Scripted):
    """Uniform over the vocabulary."""

    name = "uniform"

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray:
        return np.ones((len(prefix), self.vocab_size), dtype=np.bool_)


class AcceptEverything(Scripted):
    """Uniform over every token that is ever an answer: 1/9 on each turn and `end` of a taxi."""

    name = "accept_everything"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.answers = _answers(task)

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray:
        return np.tile(self.answers, (len(prefix), 1))


class AlwaysEnd(Scripted):
    """Ends at once, wherever it is: never illegal where only turns count as illegal."""

    name = "always_end"

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray:
        # nothing is allowed, and so all mass lies on `end`
        return np.zeros((len(prefix), self.vocab_size), dtype=np.bool_)


class LegalWalker(Scripted):
    """Uniform over the legal tokens but `end`, so that it never arrives."""

    name = "legal_walker"

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray:
        return self.turns(states)


class HistoryHash(Scripted):
    """Legal, but not a function of the state: of two or more legal turns one is forbidden,
    and a hash of the whole prefix says which."""

    name = "history_hash"
    nudge = NUDGE

    def weights(self, prefix: IntArray, states: IntArray) -> BoolArray:
        turns = self.turns(states)
        count = turns.sum(axis=1)
        # a polynomial in the tokens modulo 2^64; its high bits depend on every token
        powers = np.cumprod(np.full(prefix.shape[1], 0x9E3779B97F4A7C15, dtype=np.uint64))
        digest = ((prefix.astype(np.uint64) + 1) * powers).sum(axis=1, dtype=np.uint64)
        digest = (digest ^ (digest >> 32)) * np.uint64(0xD6E8FEB86659FD93) >> 32
        which = digest % np.maximum(count, 1).astype(np.uint64)
        forbidden: BoolArray = turns & (np.cumsum(turns, axis=1) == which[:, None] + 1)
        forbidden &= (count > 1)[:, None]
        return self.world.legal(states) & ~forbidden


class NoisyState(Scripted):
    """A function of the state alone, but an inexact one: `leak` on each illegal answer (in all no
    more than half), the rest uniform over the legal tokens."""

    name = "noisy_state"
    nudge = NUDGE
    leak = 0.004

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.answers = _answers(task)
        self.leak = min(self.leak, 0.5 / self.answers.sum())  # Countdown has hundreds

    def weights(self, prefix: IntArray, states: IntArray) -> FloatArray:
        legal = self.world.legal(states)
        leaked = self.leak * (self.answers & ~legal & legal.any(axis=1, keepdims=True))
        share = (1 - leaked.sum(axis=1)) / np.maximum(legal.sum(axis=1), 1)
        return np.where(legal, share[:, None], leaked)


class Forgetful(Scripted):
    """Sees the last two tokens only: the answers that followed them in training sequences, and
    the answers' overall frequencies after a pair that never occurred there."""

    name = "forgetful"

    def __init__(self, task: Task, num_sequences: int = SEEN) -> None:
        super().__init__(task)
        batch = task.sample("train", 0, num_sequences)
        row, t = np.nonzero(batch.targets[:, 1:] >= 0)
        pairs = self._pairs(np.column_stack((batch.tokens[row, t], batch.tokens[row, t + 1])))
        self.answers, answer = np.unique(batch.targets[row, t + 1], return_inverse=True)
        self.seen, pair = np.unique(pairs, return_inverse=True)
        self.counts = np.zeros((len(self.seen) + 1, len(self.answers)))  # last row: overall
        np.add.at(self.counts, (pair, answer), 1)
        self.counts[-1] = self.counts[:-1].sum(axis=0)

    def _pairs(self, prefix: IntArray) -> IntArray:
        """(n, T >= 2) -> (n,): one number for the last two tokens."""
        return prefix[:, -2].astype(np.int64) * self.vocab_size + prefix[:, -1]

    def weights(self, prefix: IntArray, states: IntArray) -> FloatArray:
        if prefix.shape[1] < 2:
            row = np.full(len(prefix), len(self.seen))
        else:
            pairs = self._pairs(prefix)
            row = np.searchsorted(self.seen, pairs)
            row[self.seen[np.minimum(row, len(self.seen) - 1)] != pairs] = len(self.seen)
        weights = np.zeros((len(prefix), self.vocab_size))
        weights[:, self.answers] = self.counts[row]
        return weights


class WrongMap(Oracle):
    """The oracle of another street map: of a hundred streets two lead where another one should."""

    name = "wrong_map"
    nudge = 0.0

    def __init__(self, task: Task) -> None:
        from nextlat_bench.tasks.taxi import Taxi, TaxiWorld

        if not isinstance(task, Taxi):
            raise ValueError(f"no wrong map is known of the task {task.name}")
        neighbour = task.map.neighbour.copy()
        node, turn = np.nonzero(neighbour >= 0)
        swapped = np.random.default_rng(0).permutation(len(node))[: 2 * max(1, len(node) // 100)]
        one, other = swapped, np.roll(swapped, len(swapped) // 2)
        neighbour[node[one], turn[one]] = neighbour[node[other], turn[other]]
        super().__init__(task, TaxiWorld(replace(task.map, neighbour=neighbour), task.vocab))


class CleverHans(Oracle):
    """Does not look ahead: takes any arm of a star, all alike, and follows the one it took.

    Bachmann and Nagarajan 2024. Fed the right path, it is wrong at the branch alone.
    """

    name = "clever_hans"
    nudge = 0.0

    def __init__(self, task: Task) -> None:
        from nextlat_bench.tasks.path_star import PathStar, PathStarWorld

        if not isinstance(task, PathStar):
            raise ValueError(f"no branch is known of the task {task.name}, but of path_star")
        super().__init__(task, task.world() and PathStarWorld(task, any_arm=True))


def _answers(task: Task) -> BoolArray:
    """(V,): which tokens are ever an answer?"""
    return np.isin(np.arange(len(task.vocab)), task.sample("train", 0, SEEN).targets)
