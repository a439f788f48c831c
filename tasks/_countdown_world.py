"""The automaton behind Countdown: which numbers are left, and how far the equation is."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._core import BoolArray, IntArray, World, check_length
from nextlat_bench.tasks._countdown_notation import Notation
from nextlat_bench.tasks._countdown_solver import apply, solvable

__all__ = ["CountdownWorld"]

States = npt.NDArray[Any]  # (n,) of CountdownWorld.dtype

# what is written next
FIRST, OPERATION, SECOND, EQUALS, RESULT, SEPARATOR, END, DEAD = range(8)

# Undo an equation with the result c and one operand b: the other operand is x = `c op b`, or
# `b op c` if swapped; and the equation is `x op b`, or `b op x` if swapped. In OPERATIONS' order.
UNDOING = np.array(  # (8, 4): operation, swapped?; equation's operation, swapped?
    [
        [2, 0, 0, 0],  # x = c - b: x + b, b + x
        [2, 0, 0, 1],
        [3, 0, 1, 0],  # x = c / b: x * b, b * x
        [3, 0, 1, 1],
        [0, 0, 2, 0],  # x = c + b: x - b
        [2, 1, 2, 1],  # x = b - c: b - x
        [1, 0, 3, 0],  # x = c * b: x / b
        [3, 1, 3, 1],  # x = b / c: b / x
    ]
)
MOST_OPERANDS = 128  # tried at once when an equation is undone
TRIES = 16  # at a whole history


class CountdownWorld(World):
    """The numbers left to use, the target and the equation being written.

    Legal is what the rules allow and after which the target can still be made with all numbers: in
    every state but the dead one a right answer can follow. Operands may stand in any order that
    `check` takes. After the last equation comes `end`, and then the end state, which only padding
    leaves as it is; any other illegal token leads to the dead state for good. A prompt without a
    solution starts there.

    States are a structured array of `dtype`: `numbers` left, ascending, after -1 for each one that
    is missing; `target`; `a`, `operation` (an index in OPERATIONS) and `b` of the equation being
    written, -1 where not written yet; `phase`, what is written next.
    """

    def __init__(self, notation: Notation, min_input: int, max_input: int) -> None:
        """`min_input`, `max_input`: the range of the inputs that `histories` makes up."""
        self.notation = notation
        self.vocab = notation.vocab
        self.inputs = min_input, max_input
        fields = [(name, np.int32) for name in ("target", "a", "operation", "b", "phase")]
        self.dtype = np.dtype([("numbers", np.int32, (notation.num_inputs,)), *fields])

    def start(self, prompts: IntArray) -> States:
        inputs, targets = self.notation.read_prompts(prompts)
        states = self._empty(len(inputs), FIRST)
        states["numbers"], states["target"] = np.sort(inputs, axis=1), targets
        states[~solvable(inputs, targets, self.notation.largest)] = self._empty(1, DEAD)
        return states

    def legal(self, states: States) -> BoolArray:
        legal = np.zeros((len(states), len(self.vocab)), np.bool_)
        row, token, after = self._following(states)
        good = self._viable(after)
        legal[row[good], token[good]] = True
        return legal

    def advance(self, states: States, tokens: IntArray) -> States:
        states, tokens = np.asarray(states), np.asarray(tokens)
        row, token, after = self._following(states)
        written = token == tokens[row]
        row, after = row[written], after[written]
        good = self._viable(after)
        out = self._empty(len(states), DEAD)
        out[row[good]] = after[good]
        out[self.at_goal(states) & (tokens == self.vocab.pad)] = self._empty(1, END)
        return out

    def at_goal(self, states: States) -> BoolArray:
        return np.asarray(states["phase"] == END)

    def distance(self, states: States) -> IntArray:
        left = self.notation.completion_length - self._num_written(states)
        return np.where(states["phase"] == DEAD, -1, left)

    def histories(self, states: States, length: int, rng: np.random.Generator) -> IntArray:
        """Random problems and first equations that lead to the states.

        Only the number of tokens that a state implies is possible, and nothing leads to the end
        state, which has forgotten its problem. Equations are undone, the last one first, until all
        numbers are inputs; a row where this fails TRIES times is all padding.
        """
        check_length(length)
        states = np.asarray(states)
        width = self.notation.prompt_length + length
        tokens = np.full((len(states), width), self.vocab.pad, np.int32)
        possible = (states["phase"] < END) & (self._num_written(states) == length)
        missing = np.flatnonzero(possible)
        for _ in range(TRIES):
            if len(missing) == 0:
                break
            here = states[missing]
            inputs, equations, good = self._undo(here, (length + 1) // 6, rng)
            a, operation, b = here["a"], here["operation"], here["b"]
            sign = self.notation.operations[operation]
            partial = np.column_stack((a, sign, b, np.full_like(a, self.notation.equals)))
            prompts = self.notation.write_prompts(inputs, here["target"])
            written = np.hstack((prompts, self.notation.write(equations), partial))[:, :width]
            tokens[missing[good]] = written[good]
            missing = missing[~good]
        return tokens

    def _undo(
        self, states: States, num_equations: int, rng: np.random.Generator
    ) -> tuple[IntArray, IntArray, BoolArray]:
        """(n,) states after e equations -> (n, k) inputs, (n, e, 4) equations, and (n,): are all
        of these within the range of inputs?"""
        n, k = len(states), self.notation.num_inputs
        least, most = self.inputs
        table = np.column_stack((states["numbers"], states["a"], states["b"]))
        numbers = np.sort(table, axis=1)[:, ::-1][:, :k].astype(np.int64)  # -1 last
        equations = np.zeros((n, num_equations, 4), np.int64)
        rows = np.arange(n)
        good = np.ones(n, np.bool_)
        for e in reversed(range(num_equations)):
            size = k - 1 - e  # numbers after this equation
            unfit = (numbers[:, :size] < least) | (numbers[:, :size] > most)
            # no input: undone first
            pick = (unfit + rng.random(unfit.shape)).argmax(axis=1)
            c = numbers[rows, pick]
            count = min(most - least + 1, MOST_OPERANDS)
            b = least + rng.choice(most - least + 1, size=count, replace=False)
            x = self._operands(c, b)  # (n, count * 8)
            # each equation that is still to be undone takes away one number that is no input
            others = unfit.sum(axis=1) - unfit[rows, pick]
            fits = (x >= 0) & (others[:, None] + ((x < least) | (x > most)) <= e)
            choice = (fits * rng.random(fits.shape)).argmax(axis=1)
            good &= fits.any(axis=1)
            operand, way = np.divmod(choice, len(UNDOING))
            b, x = b[operand], x[rows, choice]
            operation, swapped = UNDOING[way, 2:].T
            equations[:, e] = np.column_stack(
                (np.where(swapped, b, x), operation, np.where(swapped, x, b), c)
            )
            numbers[rows, pick], numbers[:, size] = x, b
        return rng.permuted(numbers, axis=1), equations, good

    def _operands(self, c: IntArray, b: IntArray) -> IntArray:
        """(n,) results, (m,) operands -> (n, 8 m): the other operand by each of UNDOING, or -1."""
        shape = (len(c), len(b), len(UNDOING))
        undo, swap, operation, swapped = UNDOING.T
        c, b = np.broadcast_to(c[:, None, None], shape), np.broadcast_to(b[:, None], shape)
        largest = self.notation.largest
        x = apply(np.where(swap, b, c), undo + 0 * c, np.where(swap, c, b), largest)
        again = apply(np.where(swapped, b, x), operation + 0 * c, np.where(swapped, x, b), largest)
        return np.where(again == c, x, -1).reshape(len(c), -1)

    def _empty(self, n: int, phase: int) -> States:
        states = np.empty(n, self.dtype)
        for name in self.dtype.names or ():
            states[name] = -1
        states["phase"] = phase
        return states

    def _num_written(self, states: States) -> IntArray:
        """(n,): tokens written so far."""
        phase = states["phase"]
        operands = (states["a"] >= 0).astype(np.int64) + (states["b"] >= 0)
        numbers = (states["numbers"] >= 0).sum(axis=1) + operands
        equations = self.notation.num_inputs - numbers
        written = 6 * equations + np.where(phase == SEPARATOR, -1, phase)
        return np.where(phase == END, self.notation.completion_length, written)

    def _following(self, states: States) -> tuple[IntArray, IntArray, States]:
        """(n,) states -> every token that the notation and arithmetic allow next, whether or not
        the target can still be made: the row of each, the token, and the state after it."""
        steps = {
            FIRST: self._operand,
            OPERATION: self._operation,
            SECOND: self._operand,
            EQUALS: self._equals,
            RESULT: self._result,
            SEPARATOR: self._separator,
        }
        none = np.empty(0, np.int64)
        parts: list[tuple[IntArray, IntArray, States]] = [(none, none, states[:0])]
        for phase, step in steps.items():
            rows = np.flatnonzero(states["phase"] == phase)
            if len(rows):
                row, token, after = step(states[rows])
                parts.append((rows[row], token, after))
        row, token, after = (np.concatenate(part) for part in zip(*parts, strict=True))
        return row, token, after

    def _operand(self, states: States) -> tuple[IntArray, IntArray, States]:
        numbers = states["numbers"]
        before = np.column_stack((np.full(len(states), -1), numbers[:, :-1]))
        row, column = np.nonzero((numbers >= 0) & (numbers != before))  # each value once
        after = states[row]
        token = numbers[row, column]
        after["numbers"][np.arange(len(row)), column] = -1
        after["numbers"].sort(axis=1)
        is_first = after["phase"] == FIRST
        after["a"] = np.where(is_first, token, after["a"])
        after["b"] = np.where(is_first, -1, token)
        after["phase"] += 1
        return row, token.astype(np.int64), after

    def _operation(self, states: States) -> tuple[IntArray, IntArray, States]:
        row = np.repeat(np.arange(len(states)), 4)
        operation = np.tile(np.arange(4), len(states))
        after = states[row]
        after["operation"], after["phase"] = operation, SECOND
        return row, self.notation.operations[operation].astype(np.int64), after

    def _equals(self, states: States) -> tuple[IntArray, IntArray, States]:
        after = states.copy()
        after["phase"] = RESULT
        return np.arange(len(states)), np.full(len(states), self.notation.equals), after

    def _result(self, states: States) -> tuple[IntArray, IntArray, States]:
        after = states.copy()
        after["numbers"], result = self._worked_out(states)
        for name in ("a", "operation", "b"):
            after[name] = -1
        after["phase"] = SEPARATOR
        return np.arange(len(states)), result, after

    def _separator(self, states: States) -> tuple[IntArray, IntArray, States]:
        assert self.vocab.end is not None
        last = (states["numbers"] >= 0).sum(axis=1) == 1
        after = states.copy()
        after["phase"] = FIRST
        after[last] = self._empty(1, END)
        tokens = np.where(last, self.vocab.end, self.notation.comma)
        return np.arange(len(states)), tokens, after

    def _worked_out(self, states: States) -> tuple[IntArray, IntArray]:
        """(n,) states with a whole left side -> the numbers after the equation, and its result."""
        a, operation, b = states["a"], states["operation"], states["b"]
        result = apply(a, operation, b, self.notation.largest)
        numbers = states["numbers"].copy()
        numbers[:, 0] = result  # the place of an operand
        numbers.sort(axis=1)
        return numbers, result

    def _viable(self, states: States) -> BoolArray:
        """(n,) states that follow a viable one -> (n,): can the target still be made?"""
        viable = np.ones(len(states), np.bool_)
        for phase in (OPERATION, SECOND):
            rows = np.flatnonzero(states["phase"] == phase)
            if len(rows):
                row, _, after = self._following(states[rows])
                viable[rows] = np.bincount(row, self._viable(after), len(rows)) > 0
        rows = np.flatnonzero(states["phase"] == EQUALS)
        numbers, result = self._worked_out(states[rows])
        viable[rows] = result >= 0
        rows, numbers = rows[result >= 0], numbers[result >= 0]
        size = (numbers >= 0).sum(axis=1)
        for m in np.unique(size).tolist():
            here = rows[size == m]
            left = numbers[size == m][:, -m:]
            viable[here] = solvable(left, states["target"][here], self.notation.largest)
        return viable
