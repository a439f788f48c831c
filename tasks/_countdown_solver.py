"""Which Countdown problems have a solution, and the canonical one: exact, for n problems at once.

A problem is k numbers and a target; each equation takes two numbers out and puts their result in:
a sum, a product, the larger minus the smaller, or the exact quotient of the larger by the smaller.
Every result is an integer from 0 to `largest`.

`solvable` meets in the middle: the last equation joins a value of one part of the numbers with a
value of the rest, so it forms every value of every part and undoes the last equation from the
target. `solve` walks down the depth-first search, told by `solvable` which branch to take.

Values are float32 with NaN for "no such result". That is exact: integers below 2^24 are, a product
above that stays above `largest`, and a quotient of such integers never rounds to an integer.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._core import BoolArray, IntArray

__all__ = ["MAX_INPUTS", "MAX_LARGEST", "OPERATIONS", "apply", "solvable", "solve"]

OPERATIONS = "+*-/"  # in the order of the canonical search
MAX_INPUTS = 6
MAX_LARGEST = 2**22  # sums and quotients of such integers are exact in float32

Values = npt.NDArray[np.float32]

_CHUNK = 2**17  # values of one part of the numbers at once: what a core's cache holds


def apply(a: IntArray, operation: IntArray, b: IntArray, largest: int) -> IntArray:
    """a, operation (an index in OPERATIONS, -1: none) and b, of one shape -> `a op b`, -1 where
    it is not an integer from 0 to `largest`. As written: 3 - 5 has no result, 0 / 5 is 0."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    divisor = np.where(b == 0, 1, b)
    quotient = np.where((b != 0) & (a % divisor == 0), a // divisor, -1)
    result = np.choose(operation + 1, (np.full_like(a, -1), a + b, a * b, a - b, quotient))
    possible = (a >= 0) & (b >= 0) & (result >= 0) & (result <= largest)
    return np.where(possible, result, -1)


def solvable(inputs: IntArray, targets: IntArray, largest: int = 9999) -> BoolArray:
    """(n, k) numbers, (n,) targets -> (n,): can the target be made with every number used once?

    k is 1 to 6; a problem takes about 1 us for k = 4, 30 us for k = 5 and 2 ms for k = 6.
    Anything but integers from 0 to `largest` (at most 2^22) is a ValueError.
    """
    inputs, targets = _checked(inputs, targets, largest)
    numbers, goal = inputs.T.astype(np.float32), targets.astype(np.float32)
    k = len(numbers)
    chunk = max(16, _CHUNK // _num_values(k - 1))
    out = np.empty(len(goal), np.bool_)
    with np.errstate(all="ignore"):  # NaN is how an impossible result is written
        for start in range(0, len(goal), chunk):
            part = slice(start, start + chunk)
            out[part] = _solvable(np.ascontiguousarray(numbers[:, part]), goal[part], largest)
    return out


def solve(inputs: IntArray, targets: IntArray, largest: int = 9999) -> tuple[IntArray, BoolArray]:
    """(n, k) numbers, (n,) targets -> the canonical solutions (n, k - 1, 4), and which exist (n,).

    An equation is [a, operation (an index in OPERATIONS), b, result]; -1 throughout where there is
    no solution. Canonical: the first that a depth-first search finds, over pairs i < j of the list
    of numbers in lexicographic order, then over OPERATIONS; a result is appended after the numbers
    that are left. Operands stand in list order in + and *, the larger one first in - and /.
    """
    inputs, targets = _checked(inputs, targets, largest)
    found = solvable(inputs, targets, largest)
    solutions = np.full((len(inputs), inputs.shape[1] - 1, 4), -1, np.int64)
    numbers, goal = inputs[found], targets[found]
    steps = []
    while numbers.shape[1] > 1:
        equations, numbers = _first_solvable(numbers, goal, largest)
        steps.append(equations)
    if steps:
        solutions[found] = np.stack(steps, axis=1)
    return solutions, found


def _first_solvable(numbers: IntArray, goal: IntArray, largest: int) -> tuple[IntArray, IntArray]:
    """(n, m), all solvable -> the first equation after which they still are (n, 4), and the
    numbers after it (n, m - 1)."""
    n, m = numbers.shape
    equations = np.empty((n, 4), np.int64)
    after = np.empty((n, m - 1), np.int64)
    open_rows = np.arange(n)
    for i, j in combinations(range(m), 2):
        here = numbers[open_rows]
        first, second = here[:, [i]], here[:, [j]]
        kept = np.delete(here, [i, j], axis=1)
        larger, smaller = np.maximum(first, second), np.minimum(first, second)
        a = np.hstack((first, first, larger, larger))  # (open, 4), by operation
        b = np.hstack((second, second, smaller, smaller))
        result = apply(a, np.broadcast_to(np.arange(4), a.shape), b, largest)
        row, operation = np.nonzero(result >= 0)
        left = np.column_stack((kept[row], result[row, operation]))
        good = np.zeros(a.shape, np.bool_)
        good[row, operation] = solvable(left, goal[open_rows[row]], largest)
        done = good.any(axis=1)
        op = good.argmax(axis=1)[done]
        at = np.flatnonzero(done), op
        rows = open_rows[done]
        equations[rows] = np.column_stack((a[at], op, b[at], result[at]))
        after[rows] = np.column_stack((kept[done], result[at]))
        open_rows = open_rows[~done]
        if len(open_rows) == 0:
            break
    return equations, after


def _checked(inputs: IntArray, targets: IntArray, largest: int) -> tuple[IntArray, IntArray]:
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    if not 0 <= largest <= MAX_LARGEST:
        raise ValueError(f"largest = {largest!r}: expected an integer from 0 to 2**22")
    if inputs.ndim != 2 or not 1 <= inputs.shape[1] <= MAX_INPUTS:
        raise ValueError(f"inputs of shape {inputs.shape}: expected (n, 1 to {MAX_INPUTS})")
    if targets.shape != inputs.shape[:1]:
        raise ValueError(f"targets of shape {targets.shape}: expected {inputs.shape[:1]}")
    for name, values in (("inputs", inputs), ("targets", targets)):
        if values.dtype.kind not in "iu":
            raise ValueError(f"{name} of type {values.dtype}: expected integers")
        outside = values[(values < 0) | (values > largest)]
        if len(outside):
            raise ValueError(f"{name}: {outside[0]} is not from 0 to largest = {largest}")
    return inputs, targets


def _parts(whole: int) -> Iterator[tuple[int, int]]:
    """Every way to cut a set of numbers (its bits) in two, each once: the larger part first."""
    part = (whole - 1) & whole
    while part:
        rest = whole ^ part
        size, other = part.bit_count(), rest.bit_count()
        if size > other or (size == other and part > rest):
            yield part, rest
        part = (part - 1) & whole


def _num_values(k: int) -> int:
    """How many values, repeated and impossible ones included, k numbers are combined to."""
    whole = 2**k - 1
    sizes = [(a.bit_count(), b.bit_count()) for a, b in _parts(whole)]
    return max(1, sum(4 * _num_values(a) * _num_values(b) for a, b in sizes))


def _solvable(numbers: Values, goal: Values, largest: int) -> BoolArray:
    """(k, n) numbers, (n,) targets -> (n,)."""
    k, n = numbers.shape
    whole = 2**k - 1
    values = {1 << i: numbers[i : i + 1] for i in range(k)}  # of a part of the numbers: (., n)
    if k == 1:
        return np.asarray(numbers[0] == goal)
    for part in sorted(range(1, whole), key=int.bit_count):
        if part not in values:
            # values of the last parts are only compared with possible ones: no need to rule out
            cap = largest if part.bit_count() < k - 1 else None
            values[part] = np.concatenate(
                [_combine(values[a][:, None], values[b], cap) for a, b in _parts(part)]
            )
    found = np.zeros(n, np.bool_)
    for a, b in _parts(whole):
        needed = _undo(goal, values[b], largest)
        # x * 0 = 0 has no inverse: whatever the other part's value is, and it always has one
        found |= ((values[b] == 0) & (goal == 0)).any(axis=0)
        found |= (values[a][:, None] == needed).reshape(-1, n).any(axis=0)
    return found


def _combine(a: Values, b: Values, largest: int | None) -> Values:
    """(p, 1, n), (q, n) -> (4 p q, n): the results of every operation on every pair of values.

    Impossible ones are NaN; without `largest` some of them are left as they are: fractions,
    infinities and values above the largest.
    """
    out = np.empty((4, len(a), *b.shape), np.float32)
    larger, smaller = np.maximum(a, b), np.minimum(a, b)
    np.add(a, b, out=out[0])
    np.multiply(a, b, out=out[1])
    np.subtract(larger, smaller, out=out[2])
    np.divide(larger, smaller, out=out[3])
    if largest is not None:
        out[:2][out[:2] > largest] = np.nan
        out[3][(out[3] != np.floor(out[3])) | (smaller == 0)] = np.nan
    return out.reshape(-1, b.shape[1])


def _undo(goal: Values, b: Values, largest: int) -> Values:
    """(n,), (q, n) -> (4 q, n): every x for which one operation on x and b makes the goal.

    An equation that is undone is an equation: x + b = goal where x = goal - b, and so on. Only
    the products with 0 have no inverse.
    """
    out = _combine(goal[None, None], b, largest).reshape(4, *b.shape)
    out[1][b == 0] = np.nan  # goal * 0 undoes a division by 0
    return out.reshape(-1, b.shape[1])
