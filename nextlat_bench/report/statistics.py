"""Intervals for rates and for means over seeds; NumPy and SciPy only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nextlat_bench.report.records import Record

__all__ = ["Estimate", "difference", "mean_interval", "middle_of_seeds", "over_seeds"]
__all__ += ["share_of_seeds", "wilson_interval"]

Z95 = 1.959963984540054


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a rate (Wilson 1927); honest at 0 and at 1. n = 0: (nan, nan)."""
    if n == 0:
        return float("nan"), float("nan")
    p, z = successes / n, Z95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # rounding may leave the interval a hair short of the rate itself at 0 and at 1
    return float(min(max(0.0, centre - half), p)), float(max(min(1.0, centre + half), p))


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95% interval of a mean of independent values, Student's t. n < 2: (nan, nan)."""
    if len(values) < 2:
        return float("nan"), float("nan")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(len(values))
    half = _quantile(len(values) - 1) * error
    return mean - half, mean + half


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval, None where there is none; `n` trials in all; `error`,
    the standard error of a mean over several seeds."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_seeds: int = 0
    n: int = 0
    n_skipped: int = 0
    error: float = 0.0

    def times(self, unit: float) -> "Estimate":
        value, low, high = (
            None if x is None else unit * x for x in (self.value, self.low, self.high)
        )
        return replace(self, value=value, low=low, high=high, error=unit * self.error)


def over_seeds(seeds: Sequence["Record"], most: float = inf) -> Estimate:
    """The mean of the seeds, a record each, that have a value; each counts once however many trials
    it has.

    The interval has two parts, in quadrature: Student's t over seeds, and the mean of the seeds'
    own intervals, undiminished, since seeds are tested on the same items and share what these
    are short of (Countdown's have their own: there it is wider than need be). It lies in
    0..`most`; where a seed has less than 0, anywhere up to `most`. That of a lone seed is its own,
    over its trials.

    Not a bootstrap: of three seeds, its percentiles are the least and the largest of them, which
    hold the true mean in 75% of cases, not 95%.
    """
    measured = [(seed.value, seed) for seed in seeds if seed.value is not None]
    if not measured:
        return Estimate()
    values, k = np.array([value for value, _ in measured]), len(measured)
    mean, low, high, error = float(values.mean()), measured[0][1].low, measured[0][1].high, 0.0
    if k > 1:
        error = float(values.std(ddof=1)) / sqrt(k)
        far = _quantile(k - 1) * error
        below = _mean([v - s.low for v, s in measured if s.low is not None])
        above = _mean([s.high - v for v, s in measured if s.high is not None])
        least = 0.0 if values.min() >= 0 else -inf
        low, high = max(least, mean - hypot(far, below)), min(most, mean + hypot(far, above))
        error = max(error, max(below, above) / Z95 / sqrt(k))
    n, n_skipped = sum(s.n for _, s in measured), sum(s.n_skipped for _, s in measured)
    return Estimate(mean, low, high, k, n, n_skipped, error)


def difference(ours: Estimate, its: Estimate) -> Estimate:
    """Ours less its, of two means over seeds, with Welch's interval: their spreads need not be
    alike. Less a number (an interval of no width): ours, moved.

    Two seeds of one number are not paired, though they have items and, but for Countdown, training
    examples in common: of three seeds pairs are often told apart less well. No side's error is
    less than its trials would give it, as if these were drawn afresh for each seed; of an interval
    with a longer side, that side.
    """
    if ours.value is None or its.value is None:
        return Estimate()
    gap, least = ours.value - its.value, min(ours.num_seeds, its.num_seeds)
    if least < 2 or ours.low is None or ours.high is None:
        return Estimate(gap)
    if its.low == its.high == its.value:
        return Estimate(gap, ours.low - its.value, ours.high - its.value, least)
    variance = sum(side.error**2 for side in (ours, its))
    of_both = sum(side.error**4 / (side.num_seeds - 1) for side in (ours, its))
    far = _quantile(variance**2 / of_both if of_both else inf) * sqrt(variance)
    return Estimate(gap, gap - far, gap + far, least)


def _mean(numbers: list[float]) -> float:
    """0 of none."""
    return sum(numbers) / max(1, len(numbers))


def _quantile(freedom: float) -> float:
    """How many standard errors 95% of Student's t lie within."""
    from scipy.special import stdtrit  # slow, and few commands need it; scipy.stats is slower

    return float(stdtrit(freedom, 0.975))


def share_of_seeds(seeds: Sequence["Record"], at_least: float) -> Estimate:
    """The share of seeds whose value is at least this, with its Wilson interval: seeds are its
    trials. Those without a value are left out."""
    measured = [(seed.value, seed.n_skipped) for seed in seeds if seed.value is not None]
    if not measured:
        return Estimate()
    k, n = sum(value >= at_least for value, _ in measured), len(measured)
    n_skipped = sum(skipped for _, skipped in measured)
    return Estimate(k / n, *wilson_interval(k, n), num_seeds=n, n=n, n_skipped=n_skipped)


def middle_of_seeds(seeds: Sequence["Record"]) -> Estimate:
    """The median of the seeds that have a value, between the least and the largest of them: no
    interval, which of a few seeds that lie far apart would hold what none of them is. That of a
    lone seed is its own."""
    measured = [(seed.value, seed) for seed in seeds if seed.value is not None]
    if len(measured) < 2:
        return over_seeds(seeds)
    values = [value for value, _ in measured]
    n, n_skipped = sum(s.n for _, s in measured), sum(s.n_skipped for _, s in measured)
    return Estimate(float(np.median(values)), min(values), max(values), len(values), n, n_skipped)
