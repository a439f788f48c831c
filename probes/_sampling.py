"""What the probes of behaviour share: replaying worlds, pairs of histories, reading in step."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from nextlat_bench.generate import choose, worth_dropping
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks._core import Batch, BoolArray, FloatArray, IntArray, Task, World

__all__ = [
    "MAX_ROWS",
    "HistoryPairs",
    "Reading",
    "accepts",
    "documents",
    "end_of",
    "held_out_states",
    "history_pairs",
    "is_legal",
    "outcomes",
    "read_in_step",
    "replay",
    "room",
    "states_along",
    "top1",
    "world_of",
]

MAX_ROWS = 1024  # sequences that a subject reads at once
MAX_FLOATS = 2**25  # of the log-probabilities that are held at once
REDRAWS = 10  # of a history that came out equal to its partner


def world_of(task: Task) -> World:
    """The task's world; NotApplicable where it has none."""
    world = task.world()
    if world is None:
        raise NotApplicable(f"the task {task.name} has no world")
    return world


def end_of(task: Task) -> int:
    """The task's end token; NotApplicable where it has none."""
    if task.vocab.end is None:
        raise NotApplicable(f"the sequences of the task {task.name} have no end token")
    return task.vocab.end


def documents(batch: Batch) -> IntArray:
    """(n,): which rows are of one document; each is its own where the task does not say."""
    of = batch.document[:, 0]
    return np.asarray(of if of.any() else np.arange(len(of)))


def top1(subject: Subject, tokens: IntArray) -> IntArray:
    """(n, T) -> (n, T): the likeliest token read off each position, few rows at a time."""
    rows = max(1, min(MAX_ROWS, MAX_FLOATS // max(1, tokens.shape[1] * subject.vocab_size)))
    out = np.empty(tokens.shape, dtype=np.int64)
    for i in range(0, len(tokens), rows):
        out[i : i + rows] = subject.log_probs(tokens[i : i + rows]).argmax(axis=2)
    return out


def replay(world: World, states: IntArray, tokens: IntArray) -> IntArray:
    """(n,), (n, L) -> (n, L + 1): the state before each token, and after the last."""
    out = np.empty((tokens.shape[1] + 1, len(states)), dtype=states.dtype)
    out[0] = states
    for t in range(tokens.shape[1]):
        out[t + 1] = world.advance(out[t], tokens[:, t])
    return out.T


def states_along(world: World, tokens: IntArray, prompt_length: int) -> IntArray:
    """(n, T) -> (n, T - prompt_length + 1): the state after the prompt, and after each token."""
    return replay(world, world.start(tokens[:, :prompt_length]), tokens[:, prompt_length:])


def is_legal(world: World, states: IntArray, tokens: IntArray) -> BoolArray:
    """(n,), (n,) -> (n,): is each token allowed in its state?"""
    return world.legal(states)[np.arange(len(states)), tokens]


def outcomes(
    world: World, prompts: IntArray, completions: IntArray, end: int
) -> tuple[BoolArray, BoolArray]:
    """(n, P), (n, C) -> (n,), (n,): which completions are `legal`, and which also `reached`.

    legal: no illegal token before the first `end`; where that `end` stands is not asked, as in the
    published code. reached: legal, and `end` stands at the goal.
    """
    states = replay(world, world.start(prompts), completions)
    legal = np.ones(len(prompts), dtype=np.bool_)
    reached, going = np.zeros_like(legal), np.ones_like(legal)
    for t in range(completions.shape[1]):
        going &= completions[:, t] != end
        legal &= ~going | is_legal(world, states[:, t], completions[:, t])
        reached |= world.at_goal(states[:, t + 1])
    return legal, legal & reached


def accepts(log_probs: FloatArray, tokens: IntArray, epsilon: float) -> BoolArray:
    """(n, V), (n,) -> (n,): has each token a probability above epsilon?"""
    return np.exp(log_probs[np.arange(len(tokens)), tokens].astype(np.float64)) > epsilon


class Reading(NamedTuple):
    """Continuations that one session sampled and another read along."""

    tokens: IntArray  # (n, max_new): up to and with the first refused token or `end`, then pad
    lengths: IntArray  # (n,): how many tokens that is
    accepted_by_first: BoolArray  # (n,): every token has p > epsilon after the first history
    accepted_by_second: BoolArray  # (n,): and after the second


def read_in_step(
    first: Session,
    second: Session,
    max_new: int,
    end: int,
    pad: int,
    epsilon: float,
    rng: np.random.Generator,
    min_probability: float,
) -> Reading:
    """Samples from `first` at temperature 1 while `second` reads the same tokens, n rows each.

    A row stops at the first token that `second` refuses: that settles it.
    A continuation that has not ended after `max_new` tokens is judged by what there is of it.
    """
    n = len(first.log_probs)
    out = np.full((n, max_new), pad, dtype=np.int64)
    lengths = np.zeros(n, dtype=np.int64)
    by_first, by_second = np.ones(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
    rows, going = np.arange(n), np.ones(n, dtype=np.bool_)  # which output row each session row is
    for t in range(max_new):
        tokens = choose(first.log_probs, rng, min_probability=min_probability)
        active = rows[going]
        out[active, t], lengths[active] = tokens[going], t + 1
        by_first[active] &= accepts(first.log_probs, tokens, epsilon)[going]
        by_second[active] = accepts(second.log_probs, tokens, epsilon)[going]
        going &= by_second[rows] & (tokens != end)
        if t + 1 == max_new or not going.any():
            break
        if worth_dropping(going):
            left = np.flatnonzero(going)
            rows, tokens, going = rows[left], tokens[left], going[left]
            first, second = first.select(left), second.select(left)
        first.advance(tokens)
        second.advance(tokens)
    return Reading(out, lengths, by_first, by_second)


def held_out_states(task: Task, group: int, n: int, rng: np.random.Generator) -> IntArray:
    """(group, <= n) states to ask about: those that held-out prompts describe or, where a state has
    its depth, within held-out sequences, as deep as the others of its column and before the last
    token. Fewer than n only where the split holds fewer."""
    world, prompts = world_of(task), task.prompts("test", 0, group * n)
    n, first = len(prompts) // group, prompts.shape[1]
    states = world.start(prompts[: group * n])
    if world.depth(states) is None:
        return states.reshape(group, n)
    batch = task.sample("test", 0, group * n)
    states = states_along(world, batch.tokens, first)
    longest = (batch.lengths - first).reshape(group, n).min(axis=0) - 1
    depth = rng.integers(1, np.maximum(longest, 1), endpoint=True)
    return np.asarray(states.reshape(group, n, -1)[:, np.arange(n), depth])


class HistoryPairs(NamedTuple):
    """Two histories of one length, and the states that they lead to, for each of n trials."""

    first: IntArray  # (n, P + k)
    second: IntArray  # (n, P + k)
    first_state: IntArray  # (n,)
    second_state: IntArray  # (n,)


def room(task: Task, histories: IntArray) -> int:
    """How many tokens may follow histories (n, P + k): never more than the task's sequences hold,
    since a subject learned nothing about what is longer."""
    return min(task.max_new_tokens, task.max_length - int(histories.shape[1]))


def history_pairs(
    task: Task, first: IntArray, second: IntArray, rng: np.random.Generator, batch: int
) -> tuple[list[HistoryPairs], Counter[str]]:
    """(n,), (n,) states -> two different histories of equal length k for each pair of states,
    grouped by k, at most `batch` pairs a group, and why some pairs have none.

    k is the states' depth where they have one, else uniform in 1..(limit - shortest - 4) (Vafa et
    al. 2024): `limit` tokens may follow a prompt in the task's sequences, and `shortest` turns lead
    to the end from the farther state.
    """
    world, pad = world_of(task), task.vocab.pad
    length = world.depth(first)
    if length is None:
        limit = task.max_length - task.prompts("test", 0, 1).shape[1]
        to_end = world.distance(first), world.distance(second)  # counts `end` too, hence 3, not 4
        longest = limit - np.maximum(*to_end) - 3
        longest[np.minimum(*to_end) < 0] = 0
        length = np.where(longest > 0, rng.integers(1, np.maximum(longest, 1), endpoint=True), 0)
    why = Counter({"too far from the end for any history": int((length == 0).sum())})
    groups = []
    for k in np.unique(length[length > 0]).tolist():
        trials = np.flatnonzero(length == k)
        a = world.histories(first[trials], k, rng)
        b = world.histories(second[trials], k, rng)
        for _ in range(REDRAWS):
            same = (a == b).all(axis=1)
            if not same.any():
                break
            b[same] = world.histories(second[trials[same]], k, rng)
        none = (a == pad).all(axis=1) | (b == pad).all(axis=1)
        same = ~none & (a == b).all(axis=1)
        why["no history of that length"] += int(none.sum())
        why["no second history found"] += int(same.sum())
        good = ~none & ~same
        columns = a[good], b[good], first[trials[good]], second[trials[good]]
        groups += [
            HistoryPairs(*(column[i : i + batch] for column in columns))
            for i in range(0, int(good.sum()), batch)
        ]
    return groups, why
