"""Intervals against values worked out elsewhere, and the two levels of trials and seeds."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextlat_bench.report.statistics import (
    Estimate,
    bootstrap_interval,
    normal_interval,
    over_seeds,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # z^2 = 3.841459: 0/10 ends at z^2 / (10 + z^2), 10/10 begins at 10 / (10 + z^2)
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (8, 10, 0.490162, 0.943318),  # R: prop.test(8, 10, correct = FALSE)
        (1, 2, 0.094531, 0.905469),
    ],
)
def test_wilson_known_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-6)


def test_wilson_of_no_trials() -> None:
    assert all(math.isnan(end) for end in wilson_interval(0, 0))


@given(st.integers(1, 10**7), st.data())
def test_wilson_contains_the_rate(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


def test_normal_interval() -> None:
    # mean 2.5, standard deviation sqrt(5/3), standard error 0.645497; 1.959964 of them: 1.265151
    assert normal_interval(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx((1.234849, 3.765151))
    assert all(math.isnan(end) for end in normal_interval(np.array([1.0])))


def test_bootstrap_of_seeds_that_agree_has_no_width() -> None:
    assert bootstrap_interval(np.array([0.25, 0.25, 0.25])) == (0.25, 0.25)


def test_bootstrap_of_two_seeds_spans_both() -> None:
    # the mean of two resampled seeds is the lower one in a quarter of the draws: well over 2.5%
    assert bootstrap_interval(np.array([0.2, 0.6])) == pytest.approx((0.2, 0.6))


def test_bootstrap_by_enumeration() -> None:
    """Three seeds 0, 0, 1: the mean is k/3 with k binomial(3, 1/3), P(k = 3) = 1/27 > 2.5%."""
    assert bootstrap_interval(np.array([0.0, 0.0, 1.0])) == (0.0, 1.0)
    # five seeds, one of them 1: P(k >= 4) = 0.67%, P(k >= 3) = 5.8%
    assert bootstrap_interval(np.array([0.0, 0.0, 0.0, 0.0, 1.0])) == pytest.approx((0.0, 0.6))


def test_bootstrap_needs_seeds_and_is_deterministic() -> None:
    values = np.array([0.1, 0.5, 0.7])
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert all(math.isnan(end) for end in bootstrap_interval(values[:1]))


def seed(value: float | None, n: int, n_skipped: int = 0) -> SimpleNamespace:
    ends = (None, None) if value is None else (value - 0.01, value + 0.01)
    return SimpleNamespace(value=value, low=ends[0], high=ends[1], n=n, n_skipped=n_skipped)


def test_seeds_are_a_level_of_their_own() -> None:
    """9 trials at 0 and 1 at 1 are a mean of 0.5 over two seeds, not of 0.1 over ten trials."""
    assert over_seeds([seed(0.0, 9, 2), seed(1.0, 1)]) == Estimate(0.5, 0.0, 1.0, 2, 10, 2)


def test_a_lone_seed_keeps_its_own_interval() -> None:
    assert over_seeds([seed(0.5, 9), seed(None, 0)]) == Estimate(0.5, 0.49, 0.51, 1, 9, 0)


def test_no_value_is_no_number() -> None:
    assert over_seeds([]) == over_seeds([seed(None, 4)]) == Estimate()
    assert Estimate().times(100) == Estimate()
    assert Estimate(0.5, 0.25, None, 1, 8).times(100) == Estimate(50.0, 25.0, None, 1, 8)
