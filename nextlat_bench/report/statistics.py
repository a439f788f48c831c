"""Intervals for rates and for means over seeds; NumPy and SciPy only."""

import numpy as np

__all__ = ["bootstrap_interval", "normal_interval", "wilson_interval"]

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
