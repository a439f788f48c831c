"""Countdown: combine all of the given numbers to the target, one equation after another.

Gandhi et al. 2024 (stream of search, arXiv 2404.03683); NextLat, Appendix F.2. The prompt holds the
inputs, the target and pauses to think in; then come the equations of the canonical solution:

    tokens   14  83  88  91  23  pause ... pause  83  -  14 =  69 ,  91 ... =  23  end
    targets  -   -   -   -   -   -         83     -  14  =  69 ,  91 ...    23 end  -

One token per integer. Every number is used exactly once; which equation comes first decides
whether the target can still be reached, so that a model must plan before its first token.

>>> task = Countdown(num_inputs=3, max_input=20, max_target=30, num_heldout_targets=2, largest=400)
>>> batch = task.sample(split="train", start=0, n=2)
>>> print(task.text(batch.tokens[1]))
16,1,8 -> 23: 16-1=15, 8+15=23
>>> task.check(batch.tokens[:, :12], batch.tokens[:, 12:])
array([ True,  True])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._core import (
    MOST,
    SPLITS,
    Batch,
    BoolArray,
    FloatArray,
    IntArray,
    Split,
    Vocabulary,
    block_rng,
    check_count,
    check_pairs,
)
from nextlat_bench.tasks._countdown_notation import Notation
from nextlat_bench.tasks._countdown_solver import (
    MAX_INPUTS,
    MAX_LARGEST,
    OPERATIONS,
    apply,
    solvable,
    solve,
)
from nextlat_bench.tasks._countdown_world import CountdownWorld
from nextlat_bench.tasks._draws import BLOCK, DrawnTask, row_hash, split_by_hash
from nextlat_bench.tasks._free_text import checked_texts, equations_in

__all__ = ["Countdown", "CountdownWorld"]

CANDIDATES = 256  # tried at once for the problems that are still to be found, at the least
MOST_CANDIDATES = 2**17  # bounds the memory of a rare split
PATIENCE = 10_000  # candidates of the right split for a target, none of them solvable


@dataclass(frozen=True, kw_only=True)
class Countdown(DrawnTask):
    """Countdown problems and their canonical solutions. An invalid field is a ValueError.

    The target of a problem is uniform over its split's; its inputs are independent and uniform, and
    drawn again until they make the target. Test problems alternate by number: even ones have a
    held-out target, odd ones a seen target, as all training and validation problems.

    num_inputs: numbers to combine, 2 to 6.
    min_input, max_input: the range of the inputs, inclusive.
    min_target, max_target: the range of the targets, inclusive.
    num_heldout_targets: targets, chosen by the seed, that occur in test problems alone.
    largest: the largest integer that has a token; no result exceeds it.
    num_pauses: pause tokens between the target and the solution.
    num_train: size of a fixed training set; None: fresh problems for ever.
    heldout: of the problems with seen targets the share in the validation and again in the test
        split, by a hash of the sorted inputs and the target.
    """

    name: ClassVar[str] = "countdown"

    num_inputs: int = 4
    min_input: int = 1
    max_input: int = 99
    min_target: int = 10
    max_target: int = 100
    num_heldout_targets: int = 9
    largest: int = 9999
    num_pauses: int = 8
    num_train: int | None = None
    heldout: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "num_inputs": (2, MAX_INPUTS),
            "largest": (1, MAX_LARGEST),
            "min_input": (0, self.largest),
            "max_input": (self.min_input, self.largest),
            "min_target": (0, self.largest),
            "max_target": (self.min_target, self.largest),
            "num_pauses": (0, 1000),
            "seed": (0, MOST),
        }
        for name, (least, most) in ranges.items():
            check_count(self, name, least, most)
        check_count(self, "num_heldout_targets", 0, self.max_target - self.min_target)
        self.check_splits()

    @cached_property
    def notation(self) -> Notation:
        return Notation(self.num_inputs, self.num_pauses, self.largest)

    @property
    def vocab(self) -> Vocabulary:
        """Integers "0".."largest", then + - * / = , and "pause", "end", "pad"."""
        return self.notation.vocab

    @property
    def max_length(self) -> int:
        return self.notation.prompt_length + self.notation.completion_length

    @property
    def max_new_tokens(self) -> int:
        return self.notation.completion_length

    @cached_property
    def targets(self) -> tuple[IntArray, IntArray]:
        """The seen and the held-out targets, each in ascending order."""
        # the last entry keeps this stream apart from those of blocks and epochs
        rng = np.random.default_rng([self.seed, 0, 0, 2])
        order = rng.permutation(np.arange(self.min_target, self.max_target + 1))
        held, seen = np.split(order, [self.num_heldout_targets])
        return np.sort(seen), np.sort(held)

    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Problems start..start+n of a split with their solutions. Random access."""
        tokens = self.drawn(split, start, n)
        targets = np.full_like(tokens, -1)
        first = self.notation.prompt_length
        targets[:, first - 1 : -1] = tokens[:, first:]  # the last of the prompt predicts the first
        return Batch.of_sequences(tokens, targets, self.vocab.pad)

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(n, P): inputs, target and pauses."""
        return self.drawn(split, start, n)[:, : self.notation.prompt_length]

    def text(self, tokens: IntArray) -> str:
        """`14,83,88,91 -> 23: 83-14=69, 91-88=3, 69/3=23`; nothing is shown for pauses."""
        words = self.vocab.decode(np.asarray(tokens))
        k, first = self.num_inputs, self.notation.prompt_length
        solution = "".join(words[first:]).removesuffix("end").replace(",", ", ")
        return f"{','.join(words[:k])} -> {''.join(words[k : k + 1])}: {solution}".rstrip(": ")

    def completions(self, texts: Sequence[str]) -> IntArray:
        """n free texts -> (n, max_new_tokens): the solution that each ends with, for `check`.

        The last statements with k - 1 operations together count, as equations or one expression,
        `(83-14)/(91-88)`, which is worked out by precedence, from left to right. Words around
        them, LaTeX and other signs for - * / do no harm; a false `=`, a decimal, another operation
        or a text without so many operations leaves -1, which is never right.
        """
        texts = checked_texts(texts)
        equations = np.full((len(texts), self.num_inputs - 1, 4), -1, np.int64)
        for row, text in enumerate(texts):
            for e, (a, sign, b, c) in enumerate(equations_in(text, self.num_inputs - 1)):
                equations[row, e] = a, OPERATIONS.index(sign), b, c
        equations[(equations > self.largest).any(axis=2)] = -1
        tokens = self.notation.write(equations)
        assert self.vocab.end is not None
        tokens[:, -1] = self.vocab.end
        return tokens

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """Exactly k - 1 right equations that use every number once and leave the target alone,
        then `end`, then only padding."""
        return self._judge(prompts, completions)[0]

    def scores(self, prompts: IntArray, completions: IntArray) -> dict[str, FloatArray]:
        """Named shares, (n,) each.

        answer: `check`.
        released: as a published checker reads it, for comparison with published numbers only. As
            `answer`, but numbers are never used up and the target is there from the start: operands
            are inputs, earlier results or the target, and the last result is the target.
        equations: the share of the k - 1 equations that are right, and whose operands are there at
            their turn; a wrong one leaves the numbers as they are.
        """
        names = ("answer", "released", "equations")
        judged = self._judge(prompts, completions)
        return {name: x.astype(np.float64) for name, x in zip(names, judged, strict=True)}

    def _judge(
        self, prompts: IntArray, completions: IntArray
    ) -> tuple[BoolArray, BoolArray, FloatArray]:
        """(n,) each: is it right, is it in the released reading, and the share of equations."""
        check_pairs(prompts, completions)
        numbers, targets = self.notation.read_prompts(prompts)
        equations, closed = self.notation.read(completions)
        left, operation, right, results = np.moveaxis(equations, 2, 0)
        exact = (results >= 0) & (apply(left, operation, right, self.largest) == results)
        pool = np.column_stack((numbers, targets, results[:, :-1]))
        valid, loose = exact.copy(), exact.copy()
        rows = np.arange(len(numbers))
        for e, (a, b, result) in enumerate(zip(left.T, right.T, results.T, strict=True)):
            known = pool[:, : self.num_inputs + 1 + e]
            loose[:, e] &= (known == a[:, None]).any(axis=1) & (known == b[:, None]).any(axis=1)
            is_a = numbers == a[:, None]
            i = is_a.argmax(axis=1)
            is_b = numbers == b[:, None]
            is_b[rows, i] = False  # taken
            j = is_b.argmax(axis=1)
            valid[:, e] &= is_a.any(axis=1) & is_b.any(axis=1)
            done = rows[valid[:, e]]
            numbers[done, i[done]], numbers[done, j[done]] = result[done], -1  # -1: used up
        reached = closed & (results[:, -1] == targets)
        return reached & valid.all(axis=1), reached & loose.all(axis=1), valid.mean(axis=1)

    def kinds(self, prompts: IntArray) -> npt.NDArray[np.str_]:
        """(n, P) -> (n,): "heldout" or "seen", by the target."""
        _, targets = self.notation.read_prompts(prompts)
        return np.where(np.isin(targets, self.targets[1]), "heldout", "seen")

    def clusters(self, prompts: IntArray) -> IntArray:
        """(n, P) -> (n,): the targets, of which some are easier than others."""
        return self.notation.read_prompts(prompts)[1]

    def world(self) -> CountdownWorld:
        return CountdownWorld(self.notation, self.min_input, self.max_input)

    def draw(self, split: Split, block: int) -> tuple[IntArray, float]:
        rng = block_rng(self.seed, split, block)
        seen, held = self.targets
        targets = rng.choice(seen, size=BLOCK)
        is_seen = np.ones(BLOCK, np.bool_)
        if split == "test" and len(held):
            is_seen[::2] = False  # a block begins at an even number
            targets[::2] = rng.choice(held, size=BLOCK // 2)
        inputs = np.empty((BLOCK, self.num_inputs), np.int64)
        drawn = fit = 0
        for part in (is_seen, ~is_seen):
            own = split if part is is_seen else None
            inputs[part], *counts = self._inputs(targets[part], own, rng)
            drawn, fit = drawn + counts[0], fit + counts[1]
        solutions, _ = solve(inputs, targets, self.largest)
        tokens = np.hstack(
            (self.notation.write_prompts(inputs, targets), self.notation.write(solutions))
        )
        assert self.vocab.end is not None
        tokens[:, -1] = self.vocab.end
        return tokens, 1 - fit / drawn

    def _inputs(
        self, targets: IntArray, split: Split | None, rng: np.random.Generator
    ) -> tuple[IntArray, int, int]:
        """(m,) targets -> (m, k) inputs that make them, in a split by content (None: in any); how
        many candidates were drawn, and how many of these fit."""
        share = 1.0 if split is None else self.share_of(split)
        inputs = np.empty((len(targets), self.num_inputs), np.int64)
        missing = np.arange(len(targets))
        tried, made = np.zeros((2, self.max_target + 1), np.int64)  # candidates for each target
        while len(missing):
            goals = targets[missing]
            hopeless = goals[(made[goals] == 0) & (tried[goals] * share > PATIENCE)]
            if len(hopeless):
                raise ValueError(
                    f"no {split or 'held-out'} inputs from {self.min_input} to {self.max_input} "
                    f"make {hopeless[0]}: too few problems, or heldout = {self.heldout} is too "
                    f"small ({tried[hopeless[0]]:,} drawn)"
                )
            # two of the split for each that is missing, and no tiny calls for the last few
            each = ceil(max(2, CANDIDATES // len(missing)) / share)
            each = min(each, max(1, MOST_CANDIDATES // len(missing)))
            shape = len(missing), each, self.num_inputs
            found = rng.integers(self.min_input, self.max_input, size=shape, endpoint=True)
            good = self._fit(found, goals[:, None], split)
            np.add.at(tried, goals, each)
            np.add.at(made, goals, good.sum(axis=1))
            hit, first = good.any(axis=1), good.argmax(axis=1)
            inputs[missing[hit]] = found[hit, first[hit]]
            missing = missing[~hit]
        return inputs, int(tried.sum()), int(made.sum())

    def _fit(self, inputs: IntArray, targets: IntArray, split: Split | None) -> BoolArray:
        """(m, c, k) inputs, (m, 1) targets -> (m, c): are they of the split, and solvable?"""
        targets = np.broadcast_to(targets, inputs.shape[:2])
        good = np.ones(inputs.shape[:2], np.bool_)
        if split is not None:
            content = np.concatenate((np.sort(inputs, axis=2), targets[..., None]), axis=2)
            of = split_by_hash(row_hash(content), self.seed, self.heldout)
            good = of == SPLITS.index(split)
        good[good] = solvable(inputs[good], targets[good], self.largest)
        return good
