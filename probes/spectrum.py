"""The singular values behind the effective rank: how fast do they fall?

    relative = sigma[k] / sigma[1],    share = (sigma[1] + ... + sigma[k]) / sum(sigma)

of the hidden states (positions x D) that `rank` reads. Source: Teoh et al. 2025 (NextLat),
section 4.1, whose effective rank is one number of these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, unmeasured
from nextlat_bench.probes.rank import (
    Moments,
    OfStates,
    above_rounding,
    in_groups,
    jackknife,
    stack,
    without_each,
)
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import FloatArray, Task

__all__ = ["Spectrum", "largest"]


def largest(width: int) -> list[int]:
    """1, 2, 4, 8, ... and the width itself."""
    return [*(2**i for i in range((width - 1).bit_length())), width]


@dataclass(frozen=True, kw_only=True)
class Spectrum(OfStates):
    """Singular values of the hidden states of held-out sequences, the k-th largest for each power
    of two.

    Conditions: "largest=k". Uncentred, as the paper's effective rank is; positions and interval are
    those of `rank`. A spectrum that falls fast has a low rank. Singular values that are all zero
    have no shares: no value.
    """

    name: ClassVar[str] = "spectrum"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("relative", None, "ratio", "the k-th singular value / the largest"),
        Metric("share", None, "share", "of the k largest in the sum of all singular values"),
    )

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        """Deterministic: `rng` is not used."""
        sequences = self.hidden_states(subject, task)
        n, width = sum(map(len, sequences)), sequences[0].shape[1]
        groups = in_groups(sequences)
        sigma = values(groups, width)
        without = [values(some, width) for some in without_each(groups)]
        for k in largest(width):
            for metric, formula in (("relative", relative), ("share", share)):
                value, where = formula(sigma, k), f"largest={k}"
                if np.isnan(value):
                    yield unmeasured(metric, "all singular values are 0", where)
                    continue
                half = jackknife([formula(some, k) for some in without])
                yield Measurement(metric, value, value - half, value + half, n, condition=where)


def values(groups: list[Moments], width: int) -> FloatArray:
    """(D,) singular values of all hidden states of the groups together; those that are mere
    rounding, and those that too few positions leave out, are zero."""
    sigma = above_rounding(stack(groups, centred=False))
    found = np.zeros(width)
    found[: len(sigma)] = sigma
    return found


def relative(sigma: FloatArray, k: int) -> float:
    """(D,) singular values, falling -> the k-th over the first; nan where all are 0."""
    return float(sigma[k - 1] / sigma[0]) if sigma[0] else float("nan")


def share(sigma: FloatArray, k: int) -> float:
    """(D,) singular values, falling -> what the first k have of their sum; nan where it is 0."""
    return float(sigma[:k].sum() / sigma.sum()) if sigma[0] else float("nan")
