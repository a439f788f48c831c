"""A walk on a ring: from a start, to the left and to the right, to a goal.

    text      10 -> 2: right right left right right right end      12 nodes; right of 11 is 0
    tokens    10  2 right right left  right right right end
    targets   -  right right left right right right end  -        the goal predicts the first turn

Each turn is left or right by a fair coin, and the goal is where the walk happens to end.

>>> task = Ring(max_turns=6)
>>> batch = task.sample(split="train", start=0, n=2)
>>> print(task.text(batch.tokens[0]))
10 -> 2: right right left right right right end
>>> print(*[task.vocab.tokens[target] if target >= 0 else "-" for target in batch.targets[0]])
- right right left right right right end -
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from nextlat_bench.tasks._core import (
    SPLITS,
    Batch,
    BoolArray,
    IntArray,
    Split,
    Vocabulary,
    World,
    block_rng,
    check_field,
    is_int,
)
from nextlat_bench.tasks._draws import BLOCK, DrawnTask, fill, row_hash, split_by_hash

__all__ = ["Ring", "RingWorld"]


@dataclass(frozen=True, kw_only=True)
class Ring(DrawnTask):
    """A walk on a ring of nodes, by the toss of a coin. An invalid field is a ValueError.

    num_nodes: nodes 0 to num_nodes - 1; right of the last is 0.
    max_turns: the most turns of a walk; enough to reach any goal.
    num_train: size of a fixed training set; None: fresh walks for ever.
    heldout: share of the pairs (start, goal) in the validation and again in the test split.
    """

    name: ClassVar[str] = "ring"

    num_nodes: int = 12
    max_turns: int = 20
    num_train: int | None = None
    heldout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        valid = is_int(self.num_nodes) and self.num_nodes >= 3
        check_field(self, "num_nodes", valid, "an integer of at least 3")
        half = self.num_nodes // 2
        enough = is_int(self.max_turns) and self.max_turns >= half
        check_field(self, "max_turns", enough, f"an integer of at least half the ring, {half}")
        check_field(self, "seed", is_int(self.seed) and self.seed >= 0, "an integer >= 0")
        self.check_splits()

    @cached_property
    def vocab(self) -> Vocabulary:
        """Nodes "0".."N-1", "left", "right", "end", "pad"."""
        N = self.num_nodes
        tokens = (*(str(node) for node in range(N)), "left", "right", "end", "pad")
        return Vocabulary(tokens, pad=N + 3, end=N + 2)

    @property
    def max_length(self) -> int:
        return 2 + self.max_new_tokens

    @property
    def max_new_tokens(self) -> int:
        return self.max_turns + 1

    def draw(self, split: Split, block: int) -> tuple[IntArray, float]:
        """(BLOCK, max_length) tokens of a block, and the share of walks that other splits own."""
        rng, N, own = block_rng(self.seed, split, block), self.num_nodes, SPLITS.index(split)

        def candidates(n: int) -> tuple[IntArray]:
            start, length = rng.integers(N, size=n), rng.integers(1, self.max_turns + 1, size=n)
            turns = rng.integers(2, size=(n, self.max_turns))  # 0: left
            walked = np.arange(self.max_turns) < length[:, None]
            goal = (start + ((2 * turns - 1) * walked).sum(axis=1)) % N
            tokens = np.full((n, self.max_length), self.vocab.pad)
            tokens[:, 0], tokens[:, 1] = start, goal
            tokens[:, 2:-1] = np.where(walked, N + turns, self.vocab.pad)
            tokens[np.arange(n), 2 + length] = N + 2
            of = split_by_hash(row_hash(tokens[:, :2]), self.seed, self.heldout)
            return (tokens[of == own],)

        share = 1 - 2 * self.heldout if split == "train" else self.heldout
        complaint = f"no {split} walk on {N} nodes: too few pairs for heldout = {self.heldout}"
        (tokens,), rejected = fill(BLOCK, share, candidates, complaint)
        return tokens, rejected

    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Walks start..start+n of a split; scored are the turns and the end. Random access."""
        tokens = self.drawn(split, start, n)
        targets = np.full_like(tokens, -1)
        targets[:, 1:-1] = np.where(tokens[:, 2:] == self.vocab.pad, -1, tokens[:, 2:])
        return Batch.of_sequences(tokens, targets, self.vocab.pad)

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(n, 2): start and goal."""
        return self.drawn(split, start, n)[:, :2]

    def text(self, tokens: IntArray) -> str:
        start, goal, *turns = self.vocab.decode(tokens)
        return f"{start} -> {goal}: {' '.join(turns)}"

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """Legal turns, and `end` at the goal; what follows the end is not read."""
        world = self.world()
        states = world.start(prompts)
        for tokens in completions.T:
            states = np.where(world.at_goal(states), states, world.advance(states, tokens))
        return world.at_goal(states)

    def world(self) -> "RingWorld":
        return RingWorld(self.num_nodes, self.vocab)


class RingWorld(World):
    """A state is a node and a goal, node * N + goal; then the end state N * N and the dead one."""

    def __init__(self, num_nodes: int, vocab: Vocabulary) -> None:
        self.num_nodes, self.vocab = num_nodes, vocab
        self.end, self.dead = num_nodes**2, num_nodes**2 + 1

    def start(self, prompts: IntArray) -> IntArray:
        prompts = np.asarray(prompts, dtype=np.int64)
        if prompts.shape[1:] != (2,) or ((prompts < 0) | (prompts >= self.num_nodes)).any():
            raise ValueError(f"expected prompts of two nodes, 0 to {self.num_nodes - 1}")
        return np.asarray(prompts[:, 0] * self.num_nodes + prompts[:, 1])

    def node(self, states: IntArray) -> IntArray:
        """(n,): where a walk is, -1 in the end and the dead state. The state probe reads this."""
        return np.where(states < self.end, states // self.num_nodes, -1)

    def goal(self, states: IntArray) -> IntArray:
        """(n,): where it has to go; meaningless in the end and the dead state."""
        return states % self.num_nodes

    def legal(self, states: IntArray) -> BoolArray:
        walking = states < self.end
        legal = np.zeros((len(states), len(self.vocab)), dtype=np.bool_)
        legal[:, self.num_nodes : self.num_nodes + 2] = walking[:, None]
        legal[:, self.num_nodes + 2] = walking & (self.node(states) == self.goal(states))
        return legal

    def advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        N, goal, step = self.num_nodes, self.goal(states), 2 * (tokens - self.num_nodes) - 1
        moved = (self.node(states) + step) % N * N + goal
        moved = np.where(tokens == N + 2, self.end, moved)
        legal = self.legal(states)[np.arange(len(states)), tokens]
        stays = self.at_goal(states) & (tokens == self.vocab.pad)
        return np.where(legal, moved, np.where(stays, self.end, self.dead))

    def at_goal(self, states: IntArray) -> BoolArray:
        return np.asarray(states == self.end)

    def histories(self, states: IntArray, length: int, rng: np.random.Generator) -> IntArray:
        """Fair coins, and the start from which they lead here; padding where a walk is over."""
        turns = rng.integers(2, size=(len(states), length))
        start = (self.node(states) - (2 * turns - 1).sum(axis=1)) % self.num_nodes
        tokens = np.column_stack((start, self.goal(states), self.num_nodes + turns))
        tokens[states >= self.end] = self.vocab.pad
        return tokens

    def distance(self, states: IntArray) -> IntArray:
        away = np.abs(self.node(states) - self.goal(states))
        turns = np.minimum(away, self.num_nodes - away)
        return np.select([states < self.end, self.at_goal(states)], [turns + 1, 0], -1)
