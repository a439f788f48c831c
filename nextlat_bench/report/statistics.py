"""Intervals for rates and for means over seeds; NumPy and SciPy only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

__all__ = ["Estimate", "bootstrap_interval", "normal_interval", "over_seeds"]
__all__ += ["share_of_seeds", "wilson_interval"]

Z95 = 1.959963984540054


def wilson_interval(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """95% interval of a rate (Wilson 1927); honest at 0 and at 1. n = 0: (nan, nan)."""
    if n == 0:
        return float("nan"), float("nan")
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # rounding may leave the interval a hair short of the rate itself at 0 and at 1
    return float(min(max(0.0, centre - half), p)), float(max(min(1.0, centre + half), p))


def normal_interval(values: np.ndarray, z: float = Z95) -> tuple[float, float]:
    """95% interval of a mean of independent values by its standard error. n < 2: (nan, nan)."""
    if len(values) < 2:
        return float("nan"), float("nan")
    mean, half = float(np.mean(values)), z * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return mean - half, mean + half


def bootstrap_interval(
    values: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95% percentile bootstrap of the mean over seeds (few, so no BCa: it is nan when all agree).

    One value: (nan, nan), since one seed says nothing of the spread.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.asarray(values)[rng.integers(len(values), size=(resamples, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


class Measured(Protocol):
    """One seed's value with the interval over its trials; None where there is none."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def n(self) -> int: ...
    @property
    def n_skipped(self) -> int: ...


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval, None where there is none; `n` trials in all."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_seeds: int = 0
    n: int = 0
    n_skipped: int = 0

    def times(self, unit: float) -> "Estimate":
        scaled = [None if x is None else unit * x for x in (self.value, self.low, self.high)]
        return replace(self, value=scaled[0], low=scaled[1], high=scaled[2])


def over_seeds(seeds: Sequence[Measured]) -> Estimate:
    """The mean of the seeds that have a value, each counting once however many trials it has.

    The interval is bootstrapped over seeds; that of a lone seed is its own, over its trials.
    """
    measured = [(seed.value, seed) for seed in seeds if seed.value is not None]
    if not measured:
        return Estimate()
    values, low, high = np.array([v for v, _ in measured]), measured[0][1].low, measured[0][1].high
    if len(values) > 1:
        low, high = bootstrap_interval(values)
    n, n_skipped = sum(s.n for _, s in measured), sum(s.n_skipped for _, s in measured)
    return Estimate(float(values.mean()), low, high, len(values), n, n_skipped)


def share_of_seeds(seeds: Sequence[Measured], at_least: float) -> Estimate:
    """The share of seeds whose value is at least this, with its Wilson interval: seeds are its
    trials. Those without a value are left out."""
    values = [seed.value for seed in seeds if seed.value is not None]
    if not values:
        return Estimate()
    k, n = sum(value >= at_least for value in values), len(values)
    return Estimate(k / n, *wilson_interval(k, n), num_seeds=n, n=n)
