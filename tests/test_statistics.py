"""Intervals against values worked out elsewhere, and the two levels of trials and seeds."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nextlat_bench.report.statistics import (
    Estimate,
    difference,
    mean_interval,
    middle_of_seeds,
    over_seeds,
    share_of_seeds,
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


def test_mean_interval() -> None:
    # mean 2.5, standard deviation sqrt(5/3), standard error 0.645497; t of 3 degrees is 3.182446
    assert mean_interval(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx((0.4457397, 4.5542603))
    assert all(math.isnan(end) for end in mean_interval(np.array([1.0])))


def seed(value: float | None, n: int, n_skipped: int = 0) -> SimpleNamespace:
    ends = (None, None) if value is None else (value - 0.01, value + 0.02)
    return SimpleNamespace(value=value, low=ends[0], high=ends[1], n=n, n_skipped=n_skipped)


def exact(*values: float) -> list[SimpleNamespace]:
    """Seeds of so many trials that theirs are known exactly."""
    return [SimpleNamespace(value=v, low=v, high=v, n=1, n_skipped=0) for v in values]


def test_students_t_over_seeds() -> None:
    """Mean 2, standard error 1 / sqrt(3); t of 2 degrees at 97.5% is 4.302653 (any table)."""
    found = over_seeds(exact(1.0, 2.0, 3.0))
    assert (found.value, found.error) == pytest.approx((2.0, 3**-0.5))
    assert (found.low, found.high) == pytest.approx((0.0, 2 + 4.302653 / 3**0.5))  # none below 0
    assert over_seeds(exact(0.8, 0.9, 1.0), most=1.0).high == 1.0


@pytest.mark.parametrize(("k", "of_the_range"), [(2, 0.5), (3, 0.75), (5, 0.9375)])
def test_it_holds_the_true_mean_in_95_percent(k: int, of_the_range: float) -> None:
    """The range of the seeds, which a bootstrap of three would give, does so less often: k seeds
    lie on one side of the median in 2 of 2^k cases."""
    rng, draws = np.random.default_rng(0), 4_000
    t = within = 0
    for values in rng.normal(50.0, 1.0, (draws, k)):
        found = over_seeds(exact(*values))
        assert found.low is not None
        assert found.high is not None
        t += found.low <= 50.0 <= found.high
        within += values.min() <= 50.0 <= values.max()
    assert t / draws == pytest.approx(0.95, abs=0.015)
    assert within / draws == pytest.approx(of_the_range, abs=0.03)


def test_seeds_that_agree_are_as_sure_as_their_trials() -> None:
    """Each may be 0.01 too high or 0.02 too low, and all of them alike."""
    found = over_seeds([seed(0.5, 9)] * 3)
    assert (found.low, found.high) == pytest.approx((0.49, 0.52))
    assert found.error == pytest.approx(0.02 / 3**0.5 / 1.959964)
    both = over_seeds([seed(value, 9) for value in (0.4, 0.5, 0.6)])
    far = 4.302653 * 0.1 / 3**0.5
    assert both.low == pytest.approx(0.5 - (far**2 + 0.01**2) ** 0.5)


def test_it_holds_the_true_share_where_seeds_share_their_items() -> None:
    """Items of uneven difficulty, the same 500 for all of 5 seeds, which differ little."""
    rng, draws, covered = np.random.default_rng(0), 400, 0
    for _ in range(draws):
        difficulty = rng.beta(0.4, 0.1, 500)  # of mean 0.8
        hits = [int((rng.random(500) < difficulty).sum()) for _ in range(5)]
        found = over_seeds(
            [
                SimpleNamespace(value=k / 500, low=low, high=high, n=500, n_skipped=0)
                for k, (low, high) in ((k, wilson_interval(k, 500)) for k in hits)
            ]
        )
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.8 <= found.high
    assert covered / draws > 0.93


def test_seeds_are_a_level_of_their_own() -> None:
    """9 trials at 0 and 1 at 1 are a mean of 0.5 over two seeds, not of 0.1 over ten trials."""
    found = over_seeds([seed(0.0, 9, 2), seed(1.0, 1)], most=1.0)
    assert (found.value, found.num_seeds, found.n, found.n_skipped) == (0.5, 2, 10, 2)
    assert (found.low, found.high) == (0.0, 1.0)  # two seeds: +- 6.4
    three = [seed(0.0, 9, 2), seed(1.0, 1, 3), seed(None, 0, 9)]
    assert share_of_seeds(three, 0.5).n_skipped == middle_of_seeds(three).n_skipped == 5


def test_seeds_without_an_interval_do_not_narrow_that_of_the_others() -> None:
    bare = SimpleNamespace(value=0.5, low=None, high=None, n=1, n_skipped=0)
    for without in range(3):
        found = over_seeds([seed(0.5, 100)] * (3 - without) + [bare] * without)
        assert (found.low, found.high) == pytest.approx((0.49, 0.52))
    found = over_seeds([bare] * 3)
    assert (found.low, found.high) == (0.5, 0.5)


def test_a_difference_of_means_is_welchs() -> None:
    """1, 2, 3 and 2, 4, 6, 8, against SciPy: -3 [-6.90, 0.90], 4.08 degrees of freedom."""
    found = difference(over_seeds(exact(1.0, 2.0, 3.0)), over_seeds(exact(2.0, 4.0, 6.0, 8.0)))
    its = stats.ttest_ind([1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0], equal_var=False)
    low, high = its.confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((-3.0, low, high))


def test_a_difference_from_a_number_is_students() -> None:
    ours = over_seeds(exact(5.0, 6.0, 7.0))
    found = difference(ours, Estimate(5.5, 5.5, 5.5, num_seeds=3))
    assert found.low == pytest.approx(0.5 - 4.302653 / 3**0.5)
    assert difference(ours, Estimate()) == Estimate()
    assert difference(ours, over_seeds(exact(5.0))).low is None  # of a lone seed nothing is known
    same = over_seeds(exact(1.0, 1.0))
    assert (difference(same, same).low, difference(same, same).high) == (0.0, 0.0)


def test_a_lone_seed_keeps_its_own_interval() -> None:
    assert over_seeds([seed(0.5, 9), seed(None, 0)]) == Estimate(0.5, 0.49, 0.52, 1, 9, 0)


def test_no_value_is_no_number() -> None:
    assert over_seeds([]) == over_seeds([seed(None, 4)]) == Estimate()
    assert Estimate().times(100) == Estimate()
    assert Estimate(0.5, 0.25, None, 1, 8).times(100) == Estimate(50.0, 25.0, None, 1, 8)
    assert Estimate(0.5, 0.4, 0.6, 3, 8, 0, 0.02).times(100).error == 2.0


def test_an_interval_below_zero_holds_its_mean() -> None:
    """Of a measure of one's own, which may be a loss as well as a gain."""
    over = over_seeds([seed(-0.5, 10), seed(-0.6, 10), seed(-0.55, 10)])
    assert over.low is not None
    assert over.high is not None
    assert over.low < -0.6 < -0.55 < over.high < 0
    assert over_seeds([seed(0.005, 10), seed(0.5, 10)]).low == 0
