"""Taxi: traversals of a street map, written as compass directions.

Vafa et al. 2024 (arXiv 2406.03689, Appendix F); the random walks are those of NextLat
(Appendix F.1). A sequence names the origin and the destination, then every turn taken:

    tokens   53  5   SE  SE  SW  NW  SW  end  pad    origin and destination are the prompt;
    targets  -   SE  SE  SW  NW  SW  end -    -      the destination predicts the first turn

Each turn leads along one street to the next intersection, which is never named: to know where it
is, a model must keep the map in its head.

>>> task = Taxi(streets="heliopolis", radius=400, max_nodes=7)
>>> batch = task.sample(split="train", start=1, n=2)
>>> print(task.text(batch.tokens[0]))
53 -> 5: SE SE SW NW SW end
>>> print(*[task.vocab.tokens[target] if target >= 0 else "-" for target in batch.targets[0]])
- SE SE SW NW SW end - -
>>> task.check(batch.tokens[:, :2], batch.tokens[:, 2:])
array([ True,  True])
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from nextlat_bench.tasks._core import (
    LONGEST,
    SPLITS,
    Batch,
    BoolArray,
    IntArray,
    Split,
    Vocabulary,
    World,
    block_rng,
    check_count,
    check_field,
    check_heldout,
    check_length,
    check_option,
    check_pairs,
    check_range,
    check_tokens,
    is_number,
)
from nextlat_bench.tasks._draws import BLOCK, DrawnTask, fill, split_by_hash
from nextlat_bench.tasks._streets import DIRECTIONS, StreetMap

__all__ = ["StreetMap", "Taxi", "TaxiWorld"]

Generator = Literal["random", "shortest", "noisy"]


@dataclass(frozen=True, kw_only=True)
class Taxi(DrawnTask):
    """Walks on a street map. An invalid field is a ValueError that names it.

    streets: a StreetMap, or what StreetMap.load takes.
    radius: metres around the map's centre to crop it to.
    generator: "random" walks; "shortest" paths in metres; "noisy": shortest under weights drawn
        for each sequence from Gamma(shape = metres, scale = 1).
    min_nodes, max_nodes: intersections on a random walk, uniform; no path is longer than max_nodes.
    max_path: prompts have a shortest path of fewer turns than this.
    max_new: tokens a subject may generate after a prompt.
    heldout: share of origin-destination pairs in the validation and again in the test split.
    """

    name: ClassVar[str] = "taxi"

    streets: StreetMap | str | dict[str, str] = "heliopolis"
    radius: float | None = None
    generator: Generator = "random"
    min_nodes: int = 3
    max_nodes: int = 100
    max_path: int = 50
    max_new: int = 100
    heldout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"min_nodes": 2, "max_nodes": 2, "max_path": 2, "max_new": 1}.items():
            check_count(self, name, least, LONGEST)
        check_count(self, "seed", 0)
        fits = self.max_nodes >= self.min_nodes
        check_field(self, "max_nodes", fits, f"at least min_nodes = {self.min_nodes}")
        check_heldout(self)
        check_option(self, "generator", get_args(Generator))
        if self.radius is not None:
            metres = is_number(self.radius) and self.radius > 0
            check_field(self, "radius", metres, "metres above 0, or None")
            object.__setattr__(self, "radius", float(self.radius))
        if not isinstance(self.streets, StreetMap):
            object.__setattr__(self, "streets", StreetMap.load(self.streets))
        possible = self.map.has_lengths or self.generator == "random"
        check_field(self, "generator", possible, f"random: {self.map.source} has no lengths")

    @cached_property
    def map(self) -> StreetMap:
        """The streets driven on: `streets`, cropped to `radius`."""
        assert isinstance(self.streets, StreetMap)
        return self.streets if self.radius is None else self.streets.crop(self.radius)

    @cached_property
    def vocab(self) -> Vocabulary:
        """Intersections "0".."N-1", eight directions, "end", "pad"."""
        nodes = tuple(str(node) for node in range(self.map.num_nodes))
        n = len(nodes)
        return Vocabulary((*nodes, *DIRECTIONS, "end", "pad"), pad=n + 9, end=n + 8)

    @property
    def max_length(self) -> int:
        return self.max_nodes + 2

    @property
    def max_new_tokens(self) -> int:
        return self.max_new

    def parameters(self) -> dict[str, Any]:
        assert isinstance(self.streets, StreetMap)
        return {**super().parameters(), "streets": self.streets.reference()}

    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Walks start..start+n of a split, padded to max_length. Random access."""
        tokens = self.drawn(split, start, n)
        targets = np.full_like(tokens, -1)
        scored = tokens[:, 2:] != self.vocab.pad  # the destination predicts the first turn
        targets[:, 1:-1] = np.where(scored, tokens[:, 2:], -1)
        return Batch.of_sequences(tokens, targets, self.vocab.pad)

    def draw(self, split: Split, block: int) -> tuple[IntArray, float]:
        """(BLOCK, max_length) tokens, and the share of walks of other splits or too long."""
        rng = block_rng(self.seed, split, block)
        parts, rejected = fill(
            BLOCK,
            self.share_of(split),
            lambda n: self._candidates(split, n, rng),
            f"no {split} walk of {self.map.source} with {self.map.num_nodes} intersections: "
            f"too few pairs for heldout = {self.heldout}",
        )
        origin, destination, turns = parts
        num_nodes, pad = self.map.num_nodes, self.vocab.pad
        tokens = np.full((BLOCK, self.max_length), pad, np.int32)
        tokens[:, 0], tokens[:, 1] = origin, destination
        tokens[:, 2:-1] = np.where(turns >= 0, turns + np.int32(num_nodes), pad)
        tokens[np.arange(BLOCK), 2 + (turns >= 0).sum(axis=1)] = num_nodes + 8
        return tokens, rejected

    def split_of(self, origins: IntArray, destinations: IntArray) -> IntArray:
        """(n,), (n,) -> (n,): each pair's index in SPLITS, by a hash of the pair and the seed."""
        high, low = np.asarray(origins, np.uint64), np.asarray(destinations, np.uint64)
        return split_by_hash((high << np.uint64(32)) | low, self.seed, self.heldout)

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(<= n, 2): the split's pairs of different intersections less than max_path turns apart,
        in a fixed random order."""
        start, n = check_range(split, start, n)
        pairs = _pairs(self, split)[start : start + n].astype(np.int64)
        return np.stack(np.divmod(pairs, self.map.num_nodes), axis=1).astype(np.int32)

    def text(self, tokens: IntArray) -> str:
        origin, destination, *turns = [*self.vocab.decode(tokens), "", ""]
        return f"{origin} -> {destination}: {' '.join(turns)}".rstrip()

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """Legal turns that end exactly at the destination, `end`, then only padding."""
        check_pairs(prompts, completions)
        world = self.world()
        states = world.start(prompts)
        for tokens in np.asarray(completions).T:
            states = world.advance(states, tokens)
        return world.at_goal(states)

    def world(self) -> "TaxiWorld":
        return TaxiWorld(self.map, self.vocab)

    def _candidates(self, split: Split, n: int, rng: np.random.Generator) -> tuple[IntArray, ...]:
        """Of n drawn the accepted k: origins (k,), destinations (k,), turns (k, max_nodes - 1)."""
        if self.generator == "random":
            origin = rng.integers(self.map.num_nodes, size=n)
            destination, turns = self._random_walks(origin, rng)
            own = self.split_of(origin, destination) == SPLITS.index(split)
            return origin[own], destination[own], turns[own]
        origin, destination = rng.integers(self.map.num_nodes, size=(2, n))
        own = self.split_of(origin, destination) == SPLITS.index(split)
        hops = self.map.hops()[origin, destination]
        own &= (hops > 0) & (hops < self.max_nodes)  # the rest cannot be walked in max_nodes
        origin, destination = origin[own], destination[own]
        follow = self._shortest_paths if self.generator == "shortest" else self._noisy_paths
        turns, arrived = follow(origin, destination, rng)
        return origin[arrived], destination[arrived], turns[arrived]

    def _random_walks(
        self, origin: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, IntArray]:
        """Where walks of uniform length and uniform legal turns stop, and the turns (-1: none)."""
        streets = self.map
        num_exits = streets.exits.sum(axis=1)
        exits = np.argsort(~streets.exits, axis=1, kind="stable")  # existing ones first
        lengths = rng.integers(self.min_nodes, self.max_nodes, size=len(origin), endpoint=True) - 1
        turns = np.full((len(origin), self.max_nodes - 1), -1, np.int8)
        node = origin.copy()
        for step, uniform in enumerate(rng.random((self.max_nodes - 1, len(origin)))):
            (on,) = np.nonzero((step < lengths) & (num_exits[node] > 0))
            here = node[on]
            turn = exits[here, (uniform[on] * num_exits[here]).astype(np.int64)]
            turns[on, step] = turn
            node[on] = streets.neighbour[here, turn]
        return node, turns

    def _shortest_paths(
        self, origin: IntArray, destination: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, BoolArray]:
        """The turns of the shortest paths in metres (-1: none), and which arrive in time."""
        first = self.map.shortest_turns()
        turns = np.full((len(origin), self.max_nodes - 1), -1, np.int8)
        node = origin.copy()
        for step in range(self.max_nodes - 1):
            turns[:, step] = turn = first[node, destination]
            node = np.where(turn >= 0, self.map.neighbour[node, turn], node)
        return turns, node == destination

    def _noisy_paths(
        self, origin: IntArray, destination: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, BoolArray]:
        """Shortest paths again, each under its own weights Gamma(metres, 1)."""
        from scipy.sparse.csgraph import dijkstra

        streets = self.map
        metres = streets.length[streets.exits]
        turns = np.full((len(origin), self.max_nodes - 1), -1, np.int8)
        arrived = np.zeros(len(origin), bool)
        for row, (source, target) in enumerate(zip(origin, destination, strict=True)):
            weights = rng.gamma(metres)
            _, before = dijkstra(streets.graph(weights), indices=source, return_predecessors=True)
            path = [target]
            while path[-1] != source and before[path[-1]] >= 0:
                path.append(before[path[-1]])
            arrived[row] = path[-1] == source and len(path) <= self.max_nodes
            if arrived[row]:
                nodes = np.array(path[::-1])
                taken = streets.neighbour[nodes[:-1]] == nodes[1:, None]
                turns[row, : len(taken)] = taken.argmax(axis=1)
        return turns, arrived


@lru_cache(maxsize=4)
def _pairs(task: Taxi, split: Split) -> IntArray:
    """All prompts of a split, coded origin * N + destination, in a fixed random order."""
    hops, num_nodes = task.map.hops(), task.map.num_nodes
    nodes = np.arange(num_nodes)
    codes = []
    for origin, turns in enumerate(hops):
        near = nodes[(turns > 0) & (turns < task.max_path)]
        own = task.split_of(np.full(len(near), origin), near) == SPLITS.index(split)
        codes.append((origin * num_nodes + near[own]).astype(np.uint32))
    pairs = np.concatenate(codes)
    if len(pairs) == 0:
        raise ValueError(f"no {split} pair of {task.map.source} is under {task.max_path} turns")
    # the last entry keeps this stream apart from those of the blocks
    np.random.default_rng([task.seed, SPLITS.index(split), 0, 1]).shuffle(pairs)
    pairs.setflags(write=False)
    return pairs


class TaxiWorld(World):
    """Where a walk is and where it wants to go: a state is an intersection and a destination.

    After `end` at the destination comes the end state, which only padding leaves as it is; any
    other illegal token leads to the dead state for good. `streets` is the map.
    """

    def __init__(self, streets: StreetMap, vocab: Vocabulary) -> None:
        self.streets = streets
        self.vocab = vocab
        self._end = streets.num_nodes**2
        self._dead = self._end + 1

    def start(self, prompts: IntArray) -> IntArray:
        prompts = np.asarray(prompts)
        num_nodes = self.streets.num_nodes
        if prompts.ndim != 2 or prompts.shape[1] != 2:
            raise ValueError(f"prompts of shape {prompts.shape}: expected (n, 2) node numbers")
        check_tokens("prompts", prompts)
        outside = prompts[(prompts < 0) | (prompts >= num_nodes)]
        if len(outside):
            raise ValueError(f"prompt token {outside[0]}: expected a node, 0 to {num_nodes - 1}")
        states: IntArray = prompts[:, 0].astype(np.int64) * num_nodes + prompts[:, 1]
        return states

    def node(self, states: IntArray) -> IntArray:
        """(n,): the current intersection, -1 in the end and the dead state."""
        return np.where(states < self._end, states // self.streets.num_nodes, -1)

    def destination(self, states: IntArray) -> IntArray:
        """(n,): the destination, -1 in the end and the dead state."""
        return np.where(states < self._end, states % self.streets.num_nodes, -1)

    def legal(self, states: IntArray) -> BoolArray:
        node, num_nodes = self.node(states), self.streets.num_nodes
        legal = np.zeros((len(node), len(self.vocab)), bool)
        legal[:, num_nodes : num_nodes + 8] = self.streets.exits[node] & (node >= 0)[:, None]
        legal[:, num_nodes + 8] = (node >= 0) & (node == self.destination(states))
        return legal

    def advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        node, destination, tokens = self.node(states), self.destination(states), np.asarray(tokens)
        num_nodes = self.streets.num_nodes
        turn = tokens.astype(np.int64) - num_nodes
        turning = (node >= 0) & (turn >= 0) & (turn < 8)
        following = self.streets.neighbour[node, np.where(turning, turn, 0)].astype(np.int64)
        moved = np.where(
            turning & (following >= 0), following * num_nodes + destination, self._dead
        )
        ends = (node >= 0) & (node == destination) & (turn == 8)
        stays = self.at_goal(states) & (tokens == self.vocab.pad)
        return np.where(ends | stays, self._end, moved)

    def at_goal(self, states: IntArray) -> BoolArray:
        return np.asarray(states == self._end)

    def histories(self, states: IntArray, length: int, rng: np.random.Generator) -> IntArray:
        """Uniform walks backwards: each step takes one of the streets that lead here."""
        check_length(length)
        node, destination = self.node(states), self.destination(states)
        num_nodes, (starts, source, turn) = self.streets.num_nodes, self._incoming
        tokens = np.empty((len(node), 2 + length), np.int32)
        tokens[:, 1] = destination
        possible = node >= 0
        node = np.where(possible, node, 0)
        for position in range(length + 1, 1, -1):
            choices = starts[node + 1] - starts[node]
            possible &= choices > 0
            edge = starts[node] + (rng.random(len(node)) * choices).astype(np.int64)
            edge = np.where(possible, edge, 0)
            tokens[:, position] = num_nodes + turn[edge]
            node = np.where(possible, source[edge], 0)
        tokens[:, 0] = node
        tokens[~possible] = self.vocab.pad
        return tokens

    @cached_property
    def _incoming(self) -> tuple[IntArray, IntArray, IntArray]:
        """The exits by the node they lead to: where each node's begin, their nodes and turns."""
        source, turn = np.nonzero(self.streets.exits)
        head = self.streets.neighbour[source, turn]
        order = np.argsort(head, kind="stable")
        starts = np.searchsorted(head[order], np.arange(self.streets.num_nodes + 1))
        return starts, source[order], turn[order]

    def distance(self, states: IntArray) -> IntArray:
        node, destination = self.node(states), self.destination(states)
        hops = self.streets.hops()[node, destination].astype(np.int64)
        reachable = (node >= 0) & (hops >= 0)
        return np.where(self.at_goal(states), 0, np.where(reachable, hops + 1, -1))
