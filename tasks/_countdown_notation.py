"""How a Countdown problem and its solution are written as tokens, and read back.

A prompt is the inputs, the target and the pauses; an equation is `a op b = c`, with a comma to the
next one. The commas inside a prompt carry no token.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nextlat_bench.tasks._core import BoolArray, IntArray, Vocabulary
from nextlat_bench.tasks._countdown_solver import OPERATIONS

__all__ = ["Notation"]


@dataclass(frozen=True)
class Notation:
    """The tokens of problems with `num_inputs` numbers, on integers from 0 to `largest`."""

    num_inputs: int
    num_pauses: int
    largest: int

    @cached_property
    def vocab(self) -> Vocabulary:
        """Integers "0".."largest", then + - * / = , and "pause", "end", "pad"."""
        integers = (str(i) for i in range(self.largest + 1))
        tokens = (*integers, *"+-*/=,", "pause", "end", "pad")
        return Vocabulary(tokens, pad=len(tokens) - 1, end=len(tokens) - 2)

    @property
    def prompt_length(self) -> int:
        return self.num_inputs + 1 + self.num_pauses

    @property
    def completion_length(self) -> int:
        """Six tokens an equation: its five, and a comma or `end`."""
        return 6 * (self.num_inputs - 1)

    @cached_property
    def operations(self) -> IntArray:
        """(4,): the tokens of OPERATIONS."""
        return self.vocab.encode(list(OPERATIONS))

    @cached_property
    def equals(self) -> int:
        return self.vocab.ids["="]

    @cached_property
    def comma(self) -> int:
        return self.vocab.ids[","]

    def write_prompts(self, inputs: IntArray, targets: IntArray) -> IntArray:
        """(n, k) inputs, (n,) targets -> (n, P)."""
        pauses = np.full((len(inputs), self.num_pauses), self.vocab.ids["pause"])
        return np.column_stack((inputs, targets, pauses)).astype(np.int32)

    def read_prompts(self, prompts: IntArray) -> tuple[IntArray, IntArray]:
        """(n, P) -> (n, k) inputs and (n,) targets. A malformed prompt is a ValueError."""
        prompts = np.asarray(prompts)
        expected = (len(prompts) if prompts.ndim else 0, self.prompt_length)
        if prompts.shape != expected or prompts.dtype.kind not in "iu":
            raise ValueError(
                f"prompts of shape {prompts.shape} and type {prompts.dtype}: expected integers, "
                f"(n, {self.prompt_length})"
            )
        numbers, pauses = np.split(prompts, [self.num_inputs + 1], axis=1)
        outside = numbers[(numbers < 0) | (numbers > self.largest)]
        if len(outside):
            raise ValueError(f"prompt token {outside[0]}: expected a number, 0 to {self.largest}")
        other = pauses[pauses != self.vocab.ids["pause"]]
        if len(other):
            raise ValueError(f"prompt token {other[0]}: expected {self.num_pauses} pauses")
        return numbers[:, :-1].astype(np.int64), numbers[:, -1].astype(np.int64)

    def write(self, equations: IntArray) -> IntArray:
        """(n, e, 4) equations [a, operation, b, result] -> (n, 6 e): each with a comma after it."""
        a, operation, b, result = np.moveaxis(equations, 2, 0)
        equals, comma = np.full_like(a, self.equals), np.full_like(a, self.comma)
        tokens = np.stack((a, self.operations[operation], b, equals, result, comma), axis=2)
        return tokens.reshape(len(tokens), 6 * equations.shape[1]).astype(np.int32)

    def read(self, completions: IntArray) -> tuple[IntArray, BoolArray]:
        """(n, C) -> (n, k - 1, 4) equations, and (n,): are the commas, `end` and padding right?

        -1 stands for what is no number or no operation; without its `=` an equation has none.
        """
        completions, length = np.asarray(completions), self.completion_length
        missing = max(0, length - completions.shape[1])
        tokens = np.pad(completions, ((0, 0), (0, missing)), constant_values=self.vocab.pad)
        # (n, C) -> (n, k - 1, 6)
        parts = tokens[:, :length].reshape(len(tokens), self.num_inputs - 1, 6).astype(np.int64)
        a, sign, b, equals, result, after = np.moveaxis(parts, 2, 0)
        is_operation = sign[..., None] == self.operations
        operation = np.where(is_operation.any(axis=2), is_operation.argmax(axis=2), -1)
        operation[equals != self.equals] = -1
        numbers = (np.where((x >= 0) & (x <= self.largest), x, -1) for x in (a, b, result))
        left, right, result = numbers
        closed = (after[:, :-1] == self.comma).all(axis=1) & (after[:, -1] == self.vocab.end)
        closed &= (tokens[:, length:] == self.vocab.pad).all(axis=1)
        return np.stack((left, operation, right, result), axis=2), closed
