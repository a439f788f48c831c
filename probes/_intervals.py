"""Shares and ratios of counts as measurements, each with its interval over independent units."""

from collections import Counter

import numpy as np

from nextlat_bench.probes._core import Measurement, unmeasured
from nextlat_bench.report.statistics import mean_interval, wilson_interval
from nextlat_bench.tasks._core import BoolArray, FloatArray, IntArray

__all__ = ["ratio", "ratio_measurement", "share", "share_measurement", "share_of_clusters"]
__all__ += ["skipped"]


def skipped(why: Counter[str]) -> tuple[int, str]:
    """How many trials were left out, and why."""
    reasons = "; ".join(f"{n} {reason}" for reason, n in why.items() if n)
    return why.total(), reasons


def ratio(above: FloatArray | IntArray, below: FloatArray | IntArray) -> tuple[float, FloatArray]:
    """(n,), (n,) -> sum above / sum below, and what each of n independent units adds to it: the
    ratio estimator's residuals (n,) (Cochran 1977, section 6.4). nan where below is 0 throughout.
    """
    total = float(below.sum())
    if total == 0:
        return float("nan"), np.full(len(below), np.nan)
    value = float(above.sum() / total)
    residuals: FloatArray = (above - value * below) * len(below) / total
    return value, residuals


def share(hits: FloatArray | IntArray, counts: FloatArray | IntArray) -> tuple[float, float, float]:
    """(n,) hits out of (n,) counts -> their overall share and its 95% interval.

    The n units are independent, what is counted inside a unit is not: the ratio estimator's
    standard error over units (Cochran 1977, section 6.4), cut off at 0 and 1. Where the units all
    agree it would be 0, which claims too much: there, Wilson's interval for as many trials as units
    have any.
    """
    value, residuals = ratio(hits, counts)
    if np.isnan(value):
        return value, value, value
    tried = int(np.count_nonzero(counts))
    if tried == 1 or np.abs(residuals).max() < 1e-12:
        low, high = wilson_interval(round(value * tried), tried)
        return value, min(low, value), max(high, value)
    low, high = mean_interval(value + residuals)
    return value, max(low, 0.0), min(high, 1.0)


def share_of_clusters(right: BoolArray, unit: IntArray) -> tuple[float, float, float]:
    """(n,) trials, of which those of one (n,) `unit` are not independent -> as `share`."""
    _, unit, counts = np.unique(unit, return_inverse=True, return_counts=True)
    return share(np.bincount(unit, right, minlength=len(counts)), counts)


def ratio_measurement(
    metric: str,
    above: FloatArray | IntArray,
    below: FloatArray | IntArray,
    condition: str = "",
    unit: IntArray | None = None,
) -> Measurement:
    """A row for sum above / sum below of (n,) trials, and its interval by `ratio`; trials of one
    (n,) `unit` belong together, without it each stands alone. An infinite ratio has no interval
    but itself; where below is 0 throughout there is no value, and so no trial counts."""
    n = len(above)
    if np.isinf(above).any():
        infinite = float("inf")
        return Measurement(metric, infinite, infinite, infinite, n, condition=condition)
    if unit is not None:
        unit = np.unique(unit, return_inverse=True)[1]
        above, below = (np.bincount(unit, weights=each) for each in (above, below))
    value, residuals = ratio(above, below)
    if n and np.isnan(value):
        return unmeasured(metric, "it is relative to what is 0 throughout", condition)
    low, high = mean_interval(value + residuals)
    return Measurement(metric, value, max(low, 0.0), high, n, condition=condition)


def share_measurement(
    metric: str,
    hits: FloatArray | IntArray | BoolArray,
    counts: FloatArray | IntArray | None = None,
    why: Counter[str] | None = None,
    condition: str = "",
    unit: IntArray | None = None,
) -> Measurement:
    """A row for the share of hits: Wilson's interval if each of the (n,) units is one trial; where
    several are of one (n,) `unit`, that over units if it is wider (where all units agree it has no
    width, so that Wilson's over trials stands, as if these were independent). All of one unit have
    none: it says nothing of the spread over others."""
    if counts is None:
        n, successes = len(hits), int(hits.sum())
        value = successes / n if n else float("nan")
        low, high = wilson_interval(successes, n)
    else:
        value, low, high = share(hits.astype(np.float64), counts)
    if unit is not None and len(np.unique(unit)) < len(unit):
        trials = np.ones(len(hits)) if counts is None else counts
        over = ratio_measurement(metric, hits.astype(np.float64), trials, unit=unit)
        low = float(np.minimum(low, over.low))  # not a number, where either is
        high = float(np.maximum(high, min(over.high, 1.0)))
    return Measurement(
        metric, value, low, high, len(hits), *skipped(why or Counter()), condition=condition
    )
