"""Path-Star: find the one path from the centre of a star to a given leaf.

Bachmann and Nagarajan 2024 (arXiv 2403.06963); NextLat, section 5 and Appendix F.3. The graph
G(d, l) has a centre and d arms that share nothing else; a path has l nodes, counting the centre.
Node numbers are drawn without replacement. Edges point away from the centre and come in any order:

    text      6,0|5,2|4,6|4,5/4,2=4,5,2      the edges / the centre, the goal = the path
    tokens    6 0 | 5 2 | 4 6 | 4 5 / 4 2 =  4  5  2   end     commas carry no token
    targets   - - - - - - - - - - - - - - 4  5  2  end  -      "=" predicts the first node

The second node is the only hard decision: a model that does not look ahead has a chance of 1/d
there, and each later node follows from the one before.

>>> task = PathStar(degree=2, length=3, num_nodes=7)
>>> batch = task.sample(split="train", start=0, n=2)
>>> print(task.text(batch.tokens[0]))
6,0|5,2|4,6|4,5/4,2=4,5,2
>>> print(*[task.vocab.tokens[target] if target >= 0 else "-" for target in batch.targets[0]])
- - - - - - - - - - - - - - 4 5 2 end -
>>> task.check(batch.tokens[:, :15], batch.tokens[:, 15:])
array([ True,  True])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from nextlat_bench.tasks._core import (
    LONGEST,
    SPLITS,
    Batch,
    BoolArray,
    FloatArray,
    IntArray,
    Split,
    Vocabulary,
    World,
    block_rng,
    check_count,
    check_field,
    check_length,
    check_option,
    check_pairs,
    check_tokens,
)
from nextlat_bench.tasks._draws import BLOCK, DrawnTask, fill, row_hash, split_by_hash
from nextlat_bench.tasks._free_text import checked_texts, numbers_in

__all__ = ["PathStar", "PathStarWorld"]

Variant = Literal["forward", "reversed", "teacherless"]
States: TypeAlias = Any  # (n,) structured: see PathStarWorld


@dataclass(frozen=True, kw_only=True)
class PathStar(DrawnTask):
    """Stars and the path to one of their leaves. An invalid field is a ValueError.

    degree, length: arms, and nodes on each path, the centre among them.
    num_nodes: node numbers to draw from, 0 to num_nodes - 1.
    variant: "forward"; "reversed": the path is written from the goal, so that nothing has to be
        decided; "teacherless": the input holds "$" in place of the path, whose nodes are the
        targets of the same positions and are read off at once.
    num_train: size of a fixed training set; None: fresh examples for ever.
    heldout: share of the graphs in the validation and again in the test split, whatever the goal
        and the order of the edges.
    """

    name: ClassVar[str] = "path_star"

    degree: int = 2
    length: int = 5
    num_nodes: int = 20
    variant: Variant = "forward"
    num_train: int | None = None
    heldout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"degree": 1, "length": 2, "num_nodes": 2}.items():
            check_count(self, name, least, LONGEST)
        check_count(self, "seed", 0)
        needed = 1 + self.num_edges
        expected = f"at least 1 + degree * (length - 1) = {needed}, a number for each node"
        check_field(self, "num_nodes", self.num_nodes >= needed, expected)
        check_option(self, "variant", get_args(Variant))
        self.check_splits()

    @property
    def num_edges(self) -> int:
        return self.degree * (self.length - 1)

    @cached_property
    def vocab(self) -> Vocabulary:
        """Nodes "0".."N-1", "|", "/", "=", "$" if teacherless, "end", "pad"."""
        nodes = tuple(str(node) for node in range(self.num_nodes))
        dummy = ("$",) if self.parallel else ()
        tokens = (*nodes, "|", "/", "=", *dummy, "end", "pad")
        return Vocabulary(tokens, pad=len(tokens) - 1, end=len(tokens) - 2)

    @property
    def prompt_length(self) -> int:
        """Tokens up to and with "="."""
        return 3 * self.num_edges + 3

    @property
    def max_length(self) -> int:
        return self.prompt_length + self.max_new_tokens

    @property
    def max_new_tokens(self) -> int:
        return self.length + 1

    @property
    def parallel(self) -> bool:
        return self.variant == "teacherless"

    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Examples start..start+n of a split; scored are the path and the end. Random access."""
        tokens = self.drawn(split, start, n)
        first = self.prompt_length
        targets = np.full_like(tokens, -1)
        targets[:, first - 1 : -1] = tokens[:, first:]
        if self.parallel:
            tokens[:, first:-1] = self.vocab.ids["$"]
        return Batch.of_sequences(tokens, targets, self.vocab.pad)

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(n, P): everything up to and with "="; teacherless, whole sequences."""
        if self.parallel:
            return self.sample(split, start, n).tokens
        return self.drawn(split, start, n)[:, : self.prompt_length]

    def text(self, tokens: IntArray) -> str:
        """`a,b|b,c|.../start,goal=p0,p1,...`, without the end token."""
        text = ",".join(word for word in self.vocab.decode(tokens) if word != "end")
        for mark in "|/=":
            text = text.replace("," + mark, mark).replace(mark + ",", mark)
        return text

    def completions(self, texts: Sequence[str]) -> IntArray:
        """n free texts -> (n, max_new_tokens): the path that each ends with, and `end`.

        The last list of two or more numbers counts, with commas, spaces or arrows between them;
        -1, which is never right, throughout where it has not `length` nodes.
        """
        texts = checked_texts(texts)
        tokens = np.full((len(texts), self.max_new_tokens), -1, np.int32)
        for row, text in enumerate(texts):
            nodes = numbers_in(text)
            if len(nodes) == self.length and max(nodes) < self.num_nodes:
                tokens[row] = [*nodes, self.vocab.ids["end"]]
        return tokens

    def answers(self, tokens: IntArray) -> IntArray | None:
        """Teacherless, (n, L) -> (n, L): the path and the end, -1 inside the prompt."""
        if not self.parallel:
            return None
        out = np.full(np.shape(tokens), -1, np.int32)
        out[:, self.prompt_length - 1 : -1] = self.solve(tokens)
        return out

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """The right path, `end`, then only padding. A malformed prompt is a ValueError."""
        check_pairs(prompts, completions)
        right, completions = self.solve(prompts), np.asarray(completions)
        if completions.shape[1] < right.shape[1]:
            return np.zeros(len(right), bool)
        answer, rest = np.split(completions, [right.shape[1]], axis=1)
        return np.asarray((answer == right).all(axis=1) & (rest == self.vocab.pad).all(axis=1))

    def scores(self, prompts: IntArray, completions: IntArray) -> dict[str, FloatArray]:
        """Also "branch": is the second node written the right one?

        It is the one decision, with a chance of 1/d for a model that does not look ahead; except
        in a reversed path, where one edge alone leads to the goal.
        """
        scores = super().scores(prompts, completions)  # looks at their shapes, too
        second = slice(1, 2)  # no column, and so not right, where nothing was written there
        branch = np.asarray(completions)[:, second] == self.solve(prompts)[:, second]
        return {**scores, "branch": branch.any(axis=1).astype(np.float64)}

    def world(self) -> "PathStarWorld | None":
        return None if self.parallel else PathStarWorld(self)

    def solve(self, prompts: IntArray) -> IntArray:
        """(n, P) -> (n, length + 1): the path as it must be written, and the end."""
        paths, arm = self.read(prompts)
        end = np.full((len(arm), 1), self.vocab.ids["end"], np.int32)
        return np.concatenate((self.written(paths, arm), end), axis=1)

    def written(self, paths: IntArray, arm: IntArray) -> IntArray:
        """(n, d, l), (n,) -> (n, l): the path along an arm, in the order it is written."""
        path = paths[np.arange(len(arm)), arm]
        return path[:, ::-1] if self.variant == "reversed" else path

    def write(self, paths: IntArray, arm: IntArray, rng: np.random.Generator) -> IntArray:
        """(n, d, l) paths, (n,) the goal's arm -> (n, L) sequences, their edges in random order."""
        n, edges = len(arm), 3 * self.num_edges
        tokens = np.tile(self._template, (n, 1))
        order = _distinct(rng, n, self.num_edges, self.num_edges).astype(np.intp)
        tail = order + order // (self.length - 1)  # on an arm of l nodes begin l - 1 edges
        nodes = paths.reshape(n, self.degree * self.length)
        tokens[:, 0:edges:3] = np.take_along_axis(nodes, tail, axis=1)
        tokens[:, 1:edges:3] = np.take_along_axis(nodes, tail + 1, axis=1)
        tokens[:, edges] = paths[:, 0, 0]
        tokens[:, edges + 1] = paths[np.arange(n), arm, -1]
        tokens[:, self.prompt_length : -1] = self.written(paths, arm)
        return tokens

    def read(self, prompts: IntArray) -> tuple[IntArray, IntArray]:
        """Inverse of `write`: (n, P) prompts -> (n, d, l) paths, arms by their first node, and
        (n,) the goal's arm. Anything but a star of this shape is a ValueError."""
        prompts = np.asarray(prompts)
        template = self._template if self.parallel else self._template[: self.prompt_length]
        if prompts.shape[1:] != template.shape:
            raise ValueError(
                f"prompts of shape {prompts.shape}: expected (n, {len(template)}) tokens"
            )
        check_tokens("prompts", prompts)
        is_node = (prompts >= 0) & (prompts < self.num_nodes)
        sound = np.where(template < 0, is_node, prompts == template).all(axis=1)
        prompts = np.where(is_node, prompts, 0)  # what is not sound is read, too, and then refused
        edges = prompts[:, : 3 * self.num_edges]
        tail, head = edges[:, ::3], edges[:, 1::3]  # (n, E)
        start, goal = prompts[:, self.prompt_length - 3 : self.prompt_length - 1].T
        rows = np.arange(len(prompts))[:, None]

        first = tail == start[:, None]
        sound &= first.sum(axis=1) == self.degree
        after = np.full((len(prompts), self.num_nodes), -1, np.int32)
        after[rows, tail] = head
        paths = np.empty((len(prompts), self.degree, self.length), np.int32)
        paths[:, :, 0] = start[:, None]
        heads = np.sort(np.where(first, head, self.num_nodes), axis=1)[:, : self.degree]
        paths[:, :, 1] = np.minimum(heads, self.num_nodes - 1)
        for step in range(2, self.length):
            paths[:, :, step] = after[rows, paths[:, :, step - 1]]
        # E different nodes were reached from different ones, so that each of the E edges was used
        arms = paths[:, :, 1:].reshape(len(prompts), self.num_edges)
        nodes = np.sort(np.column_stack((start, arms)), axis=1)
        sound &= (nodes[:, 0] >= 0) & (np.diff(nodes, axis=1) > 0).all(axis=1)
        is_goal = paths[:, :, -1] == goal[:, None]  # (n, d)
        sound &= is_goal.any(axis=1)
        if not sound.all():
            raise ValueError(
                f"prompt {np.flatnonzero(~sound)[0]} is malformed: expected a star of "
                f"{self.degree} arms and paths of {self.length} nodes, its centre and a leaf"
            )
        return paths, is_goal.argmax(axis=1)

    @cached_property
    def _template(self) -> IntArray:
        """(L,): a sequence of which only the nodes are open, -1."""
        bar, slash, equals = (self.vocab.ids[mark] for mark in "|/=")
        path = [self.vocab.ids["$"] if self.parallel else -1] * self.length
        edges = [-1, -1, bar] * self.num_edges
        return np.array(
            [*edges[:-1], slash, -1, -1, equals, *path, self.vocab.ids["end"]], np.int32
        )

    def draw(self, split: Split, block: int) -> tuple[IntArray, float]:
        rng = block_rng(self.seed, split, block)
        own = SPLITS.index(split)

        def candidates(n: int) -> tuple[IntArray]:
            nodes = _distinct(rng, n, self.num_nodes, 1 + self.num_edges)
            centre = np.broadcast_to(nodes[:, :1, None], (n, self.degree, 1))
            arms = nodes[:, 1:].reshape(n, self.degree, self.length - 1)
            paths = np.concatenate((centre, arms), axis=2)
            graph = row_hash(paths).sum(axis=1, dtype=np.uint64)  # the same in any order of arms
            return (paths[split_by_hash(graph, self.seed, self.heldout) == own],)

        (paths,), rejected = fill(
            BLOCK,
            self.share_of(split),
            candidates,
            f"no {split} graph of {self.degree} arms and paths of {self.length} nodes over "
            f"{self.num_nodes}: too few graphs for heldout = {self.heldout}",
        )
        return self.write(paths, rng.integers(self.degree, size=BLOCK), rng), rejected


def _distinct(rng: np.random.Generator, n: int, num: int, k: int) -> IntArray:
    """(n, k): k different numbers below `num` a row, in random order; k = num shuffles.

    Fisher and Yates, k steps for all rows together: nothing is sorted, however large `num` is.
    """
    table = np.repeat(np.arange(num, dtype=np.min_scalar_type(num))[:, None], n, axis=1)
    flat = table.reshape(-1)
    step = np.arange(k)[:, None]
    other = (step + (rng.random((k, n)) * (num - step)).astype(np.int64)) * n + np.arange(n)
    for i in range(k):
        chosen = flat[other[i]]
        flat[other[i]] = table[i]
        table[i] = chosen
    return table[:k].T


class PathStarWorld(World):
    """A path that is being written: one token is right at a time, and after `end` only padding.

    A state is a record: `paths` (d, l), the graph, its arms in the order of their first nodes;
    `arm`, the goal's; `position`, tokens written. The end state and the dead state, where every
    other token leads for good, have forgotten their graph.

    any_arm: every arm is allowed, and the one taken is then followed, wherever the goal is: the
        world of a model that does not look ahead.
    """

    def __init__(self, task: PathStar, any_arm: bool = False) -> None:
        self.task = task
        self.vocab = task.vocab
        self.any_arm = any_arm and task.variant == "forward"  # reversed, there is no choice
        shape = (task.degree, task.length)
        record = [("paths", np.int32, shape), ("arm", np.int32), ("position", np.int32)]
        self._dead, self._end = np.zeros(2, record)
        self._dead["position"], self._end["position"] = -1, task.length + 1

    def start(self, prompts: IntArray) -> States:
        paths, arm = self.task.read(prompts)
        states = np.zeros(len(arm), self._end.dtype)
        states["paths"], states["arm"] = paths, arm
        return states

    def legal(self, states: States) -> BoolArray:
        legal = np.zeros((len(states), len(self.vocab)), bool)
        token = self._next(states)
        (rows,) = np.nonzero(token >= 0)
        legal[rows, token[rows]] = True
        (rows,) = np.nonzero(self._branches(states))
        legal[rows[:, None], states["paths"][rows, :, 1]] = True
        return legal

    def advance(self, states: States, tokens: IntArray) -> States:
        states, tokens = states.copy(), np.asarray(tokens)
        taken = (states["paths"][:, :, 1] == tokens[:, None]) & self._branches(states)[:, None]
        states["arm"] = np.where(taken.any(axis=1), taken.argmax(axis=1), states["arm"])
        stays = self.at_goal(states) & (tokens == self.vocab.pad)
        right = (tokens == self._next(states)) & (tokens >= 0)
        states["position"] += right
        states[self.at_goal(states)] = self._end
        states[~right & ~stays] = self._dead
        return states

    def at_goal(self, states: States) -> BoolArray:
        return np.asarray(states["position"] == self.task.length + 1)

    def histories(self, states: States, length: int, rng: np.random.Generator) -> IntArray:
        """The same graph with its edges in a new order, and the path so far: `length` can be
        nothing but the state's position."""
        check_length(length)
        width = self.task.prompt_length + length
        tokens = np.full((len(states), width), self.vocab.pad, np.int32)
        if length <= self.task.length:
            (rows,) = np.nonzero(states["position"] == length)
            here = states[rows]
            tokens[rows] = self.task.write(here["paths"], here["arm"], rng)[:, :width]
        return tokens

    def distance(self, states: States) -> IntArray:
        position = states["position"]
        return np.where(position >= 0, self.task.length + 1 - position, -1)

    def _next(self, states: States) -> IntArray:
        """(n,): the one right token, -1 where there is none."""
        path = self.task.written(states["paths"], states["arm"])  # (n, l)
        position, length = states["position"], self.task.length
        node = path[np.arange(len(path)), np.clip(position, 0, length - 1)]
        after = np.where(position == length, self.vocab.ids["end"], -1)
        return np.where((position >= 0) & (position < length), node, after)

    def _branches(self, states: States) -> BoolArray:
        """(n,): may every arm be taken here?"""
        return np.asarray(self.any_arm & (states["position"] == 1))
