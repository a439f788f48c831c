"""Worlds whose states say how many tokens led to them, as a board's do."""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import ClassVar

import numpy as np
import pytest

from nextlat_bench.known import known_subject
from nextlat_bench.probes._sampling import held_out_states, history_pairs
from nextlat_bench.probes.compression import Compression
from nextlat_bench.probes.distinction import Distinction
from nextlat_bench.tasks._core import Batch, BoolArray, IntArray, Split, Task, Vocabulary, World

PLACES, STONES = 8, 6
GO, END, PAD = PLACES, PLACES + 1, PLACES + 2


class BoardWorld(World):
    """A state is the board in base 3, (empty, black, white) place by place; then over, and dead."""

    vocab = Vocabulary((*"abcdefgh", "go", "end", "pad"), pad=PAD, end=END)
    over, dead = 3**PLACES, 3**PLACES + 1

    def board(self, states: IntArray) -> IntArray:
        """(n,) -> (n, PLACES)"""
        return states[:, None] // 3 ** np.arange(PLACES) % 3

    def start(self, prompts: IntArray) -> IntArray:
        return np.zeros(len(prompts), dtype=np.int64)

    def legal(self, states: IntArray) -> BoolArray:
        """An empty place with no more than one stone of the player's beside it; `end` on a board
        with all stones."""
        board, depth = self.board(states), self.depth(states)
        mine = np.pad(board == (1 + depth % 2)[:, None], ((0, 0), (1, 1)))
        out = np.zeros((len(states), len(self.vocab)), dtype=np.bool_)
        playing = states < self.over
        out[:, :PLACES] = (board == 0) & ~(mine[:, :-2] & mine[:, 2:]) & (depth < STONES)[:, None]
        out[:, END] = depth >= STONES
        return out & playing[:, None]

    def advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        allowed = self.legal(states)[np.arange(len(states)), tokens]
        stone = (1 + self.depth(states) % 2) * 3 ** np.minimum(tokens, PLACES)
        return np.where(allowed, np.where(tokens == END, self.over, states + stone), self.dead)

    def at_goal(self, states: IntArray) -> BoolArray:
        return np.asarray(states == self.over)

    def histories(self, states: IntArray, length: int, rng: np.random.Generator) -> IntArray:
        out = np.full((len(states), 1 + length), PAD)
        for i, board in enumerate(self.board(states)):
            black, white = (permutations(np.flatnonzero(board == colour)) for colour in (1, 2))
            orders = [(b, w) for w in white for b in black] if (board > 0).sum() == length else []
            games = [np.zeros(length, dtype=np.int64) for _ in orders]
            for game, (b, w) in zip(games, orders, strict=True):
                game[::2], game[1::2] = b, w
            legal = [g for g in games if self.depth(self.play(g[None]))[0] == length]
            if legal:
                out[i] = [GO, *legal[rng.integers(len(legal))]]
        return out

    def play(self, moves: IntArray) -> IntArray:
        states = self.start(moves)
        for tokens in moves.T:
            states = self.advance(states, tokens)
        return states

    def distance(self, states: IntArray) -> IntArray:
        return np.where(
            states < self.over, STONES + 1 - self.depth(states), np.where(states > self.over, -1, 0)
        )

    def depth(self, states: IntArray) -> IntArray:
        stones = (self.board(states) > 0).sum(axis=1)
        return np.where(states < self.over, stones, -1)


@dataclass(frozen=True, kw_only=True)
class Board(Task):
    """Six stones are put on a row of eight places; every game begins alike."""

    name: ClassVar[str] = "board"
    max_length: ClassVar[int] = STONES + 2  # type: ignore[misc]
    max_new_tokens: ClassVar[int] = STONES + 1  # type: ignore[misc]

    @property
    def vocab(self) -> Vocabulary:
        return BoardWorld.vocab

    @cached_property
    def its_world(self) -> BoardWorld:
        return BoardWorld()

    def world(self) -> BoardWorld:
        return self.its_world

    def sample(self, split: Split, start: int, n: int) -> Batch:
        rng = np.random.default_rng((start, len(split)))
        states, tokens = np.zeros(n, dtype=np.int64), np.full((n, STONES + 2), GO)
        for t in range(1, STONES + 2):
            weights = rng.random((n, len(self.vocab))) * self.its_world.legal(states)
            tokens[:, t] = weights.argmax(axis=1)
            states = self.its_world.advance(states, tokens[:, t])
        targets = np.column_stack((tokens[:, 1:], np.full(n, -1)))
        return Batch.of_sequences(tokens, targets, PAD)

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        return np.full((n, 1), GO)

    def text(self, tokens: IntArray) -> str:
        return " ".join(self.vocab.decode(tokens))

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        states = self.its_world.play(completions)
        return np.asarray(states == self.its_world.over)


TASK = Board()


def values(probe: Compression | Distinction, subject: str) -> dict[str, float | None]:
    found = probe.measure(known_subject(subject, TASK), TASK, np.random.default_rng(0))
    return {m.metric: m.value for m in found}


@pytest.mark.parametrize("group", [1, 2])
def test_states_are_within_held_out_games_and_of_one_depth(group: int) -> None:
    states = held_out_states(TASK, group, 300, np.random.default_rng(0))
    world, games = TASK.world(), TASK.sample("test", 0, 300 * group).tokens[:, 1:]
    assert states.shape == (group, 300)
    depth = world.depth(states.ravel()).reshape(group, 300)
    assert set(depth[0].tolist()) == {*range(1, STONES + 1)}
    assert (depth == depth[0]).all()
    for i, (state, d) in enumerate(zip(states.ravel(), depth.ravel(), strict=True)):
        assert state == world.play(games[i : i + 1, :d])[0]


def test_histories_are_as_long_as_their_state_is_deep() -> None:
    rng = np.random.default_rng(0)
    (states,) = held_out_states(TASK, 1, 200, rng)
    groups, why = history_pairs(TASK, states, states, rng, 1000)
    world = TASK.world()
    # one or two stones have one order
    assert [g.first.shape[1] - 1 for g in groups] == [3, 4, 5, 6]
    assert sum(len(g.first) for g in groups) + why.total() == 200
    assert why["no second history found"] > 50
    for g in groups:
        for history in (g.first, g.second):
            assert (world.play(history[:, 1:]) == g.first_state).all()
        assert (g.first != g.second).any(axis=1).all()


def test_compression_of_a_board() -> None:
    probe = Compression(num_states=200, num_continuations=10)
    assert values(probe, "oracle") == {"precision": 1.0}
    assert values(probe, "history_hash")["precision"] < 0.5  # type: ignore[operator]


def test_distinction_of_a_board() -> None:
    probe = Distinction(num_pairs=200, num_continuations=10)
    assert set(values(probe, "oracle").values()) == {1.0}
    assert values(probe, "accept_everything")["recall"] == 0.0
