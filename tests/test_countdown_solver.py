"""The batched solver against a recursion and a depth-first search written from the rules alone."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench.tasks._countdown_solver import MAX_LARGEST, OPERATIONS, apply, solvable, solve


def results(x, y, largest):
    """What two numbers make, by the sign that is written."""
    high, low = max(x, y), min(x, y)
    made = {"+": x + y, "*": x * y, "-": high - low}
    if low and high % low == 0:
        made["/"] = high // low
    return {sign: value for sign, value in made.items() if value <= largest}


def slow_solve(numbers, target, largest):
    """The first solution of a depth-first search, as text, or None."""
    if len(numbers) == 1:
        return [] if numbers[0] == target else None
    for i, j in combinations(range(len(numbers)), 2):
        x, y = numbers[i], numbers[j]
        rest = [number for place, number in enumerate(numbers) if place not in (i, j)]
        made = results(x, y, largest)
        for sign in "+*-/":
            if sign not in made:
                continue
            left, right = (x, y) if sign in "+*" else (max(x, y), min(x, y))
            tail = slow_solve([*rest, made[sign]], target, largest)
            if tail is not None:
                return [f"{left}{sign}{right}={made[sign]}", *tail]
    return None


def slow_values(numbers, largest):
    """Every value that all the numbers together make, by cutting them in two in every way."""
    if len(numbers) == 1:
        return set(numbers)
    first, *others = numbers
    values = set()
    for mask in range(2 ** len(others) - 1):  # the first number's side; never everything
        mine = [first, *(x for i, x in enumerate(others) if mask >> i & 1)]
        rest = [x for i, x in enumerate(others) if not mask >> i & 1]
        for x, y in product(slow_values(mine, largest), slow_values(rest, largest)):
            values |= set(results(x, y, largest).values())
    return values


def written(equations):
    return [f"{a}{OPERATIONS[op]}{b}={c}" for a, op, b, c in equations.tolist()]


@pytest.mark.parametrize(
    ("numbers", "target", "expected"),
    [
        ([14, 83, 88, 91], 23, ["83-14=69", "91-88=3", "69/3=23"]),
        ([90, 8, 20, 50], 24, ["90*8=720", "50-20=30", "720/30=24"]),
        ([7], 7, []),
        ([6, 2], 3, ["6/2=3"]),
        ([2, 6], 3, ["6/2=3"]),
        ([2, 2], 4, ["2+2=4"]),
        ([5, 5, 0], 1, ["5/5=1", "0+1=1"]),
        ([0, 0], 0, ["0+0=0"]),
        ([0, 4, 9], 0, ["0*4=0", "9*0=0"]),
    ],
)
def test_worked_examples(numbers, target, expected):
    solutions, found = solve(np.array([numbers]), np.array([target]))
    assert found.tolist() == [True]
    assert written(solutions[0]) == expected


@pytest.mark.parametrize(("numbers", "target"), [([0, 7], 1), ([0, 0], 1), ([1, 1, 1, 1], 99)])
def test_unsolvable_examples(numbers, target):
    solutions, found = solve(np.array([numbers]), np.array([target]))
    assert found.tolist() == [False]
    assert (solutions == -1).all()


@given(st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([(9, 60), (30, 99), (99, 9999)]))
@settings(max_examples=60)
def test_against_the_slow_search(k, seed, size):
    most, largest = size
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, most + 1, size=(40 if k < 4 else 12, k))
    targets = rng.integers(0, min(largest, 3 * most) + 1, size=len(inputs))
    # of these half are reachable by design
    made = [sorted(slow_values(row, largest)) for row in inputs.tolist()]
    targets[::2] = [values[rng.integers(len(values))] for values in made[::2]]
    solutions, found = solve(inputs, targets, largest)
    np.testing.assert_array_equal(solvable(inputs, targets, largest), found)
    for row, target, values, equations, is_found in zip(
        inputs.tolist(), targets.tolist(), made, solutions, found, strict=True
    ):
        assert is_found == (target in values)
        expected = slow_solve(row, target, largest)
        assert (expected is not None) == is_found
        if is_found:
            assert written(equations) == expected
        else:
            assert (equations == -1).all()
    assert found[::2].all()


@pytest.mark.parametrize(("k", "largest"), [(3, 20), (3, 999), (4, 20), (4, 200)])
def test_every_target_of_small_problems(k, largest):
    """Zeros, repeated numbers and results just above the largest, all targets there are."""
    targets = np.arange(largest + 1)
    problems = list(product((0, 1, 2, 3, 7, 20), repeat=k))
    for numbers in problems[:: 1 if k == 3 else 13]:
        got = solvable(np.tile(numbers, (len(targets), 1)), targets, largest)
        assert set(np.flatnonzero(got).tolist()) == slow_values(list(numbers), largest)


@pytest.mark.parametrize("k", [5, 6])
def test_many_inputs(k):
    rng = np.random.default_rng(k)
    inputs = rng.integers(1, 13, size=(3, k))
    targets = np.array([97, 61, 83])
    solutions, found = solve(inputs, targets)
    assert found.all()
    for row, target, equations in zip(inputs.tolist(), targets.tolist(), solutions, strict=True):
        assert written(equations) == slow_solve(row, target, 9999)
    ones, targets = np.ones((12, k), int), np.arange(12)
    made = np.flatnonzero(solvable(ones, targets))
    assert set(made.tolist()) == slow_values([1] * k, 9999)


def test_single_precision_is_exact():
    """Products and quotients near the largest that single precision would blur."""
    largest = MAX_LARGEST
    rng = np.random.default_rng(0)
    b = rng.integers(1, 4000, size=4000)
    q = rng.integers(1, largest // b + 1)
    for wrong in (-1, 0, 1):
        a = np.clip(q * b + wrong, 0, largest)
        expected = (a % b == 0) & (a // b == q)
        expected |= (a + b == q) | (abs(a - b) == q) | (a * b == q)
        got = solvable(np.column_stack((a, b)), q, largest)
        np.testing.assert_array_equal(got, expected)
        x = np.column_stack((q, b))
        expected = (q * b == a) | (q + b == a) | (abs(q - b) == a)
        expected |= (q % b == 0) & (q // b == a) | (b % q == 0) & (b // q == a)
        np.testing.assert_array_equal(solvable(x, a, largest), expected)


@given(st.integers(-1, 40), st.integers(-1, 40), st.integers(-1, 3), st.integers(0, 500))
def test_apply(a, b, operation, largest):
    got = apply(np.array([a]), np.array([operation]), np.array([b]), largest)[0]
    expected = -1
    if a >= 0 and b >= 0 and operation >= 0:
        sign = OPERATIONS[operation]
        if sign == "/":
            quotients = [c for c in range(41) if b and c * b == a]
            expected = quotients[0] if quotients else -1
        else:
            expected = {"+": a + b, "*": a * b, "-": a - b}[sign]
    assert got == (expected if 0 <= expected <= largest else -1)


def test_arguments_are_validated():
    good = np.array([[1, 2]]), np.array([3])
    for inputs in ([1, 2], [[1.0, 2.0]], [[]], [[1] * 7], [[-1, 2]], [[1, 10000]]):
        with pytest.raises(ValueError, match="inputs"):
            solvable(np.array(inputs), good[1])
    for targets in (3, [3, 4], [[3]], [3.0], [-1], [10000]):
        with pytest.raises(ValueError, match="targets"):
            solve(good[0], np.array(targets))
    for largest in (-1, MAX_LARGEST + 1):
        with pytest.raises(ValueError, match="largest"):
            solve(*good, largest)
    assert solvable(np.empty((0, 4), int), np.empty(0, int)).shape == (0,)
    solutions, found = solve(np.empty((0, 4), int), np.empty(0, int))
    assert (solutions.shape, found.shape) == ((0, 3, 4), (0,))


@pytest.mark.parametrize(
    ("numbers", "targets", "largest", "said"),
    [
        ([[1, 61]], [3], 60, "inputs: 61 is not from 0 to largest = 60"),
        ([[1, 2], [3, 4]], [3, -5], 60, "targets: -5 is not from 0 to largest = 60"),
        ([1, 2], [3], 60, r"inputs of shape \(2,\): expected \(n, 1 to 6\)"),
        ([[1, 2]], [3, 4], 60, r"targets of shape \(2,\): expected \(1,\)"),
        ([[1, 2]], [3.0], 60, "targets of type float64: expected integers"),
        ([[1, 2]], [3], -1, r"largest = -1: expected an integer from 0 to 2\*\*22"),
    ],
)
def test_what_is_wrong_is_named(numbers, targets, largest, said):
    with pytest.raises(ValueError, match=said):
        solvable(np.array(numbers), np.array(targets), largest)
