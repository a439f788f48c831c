"""Hidden states: who has them, which there are, and those at some positions."""

import numpy as np

from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.subject import LatentSubject, Subject
from nextlat_bench.tasks._core import BoolArray, FloatArray, IntArray

__all__ = ["ROWS_PER_CALL", "read", "readings", "standardised", "states_of"]

ROWS_PER_CALL = 64


def states_of(subject: Subject) -> LatentSubject:
    """The subject itself; NotApplicable where it has no hidden states."""
    if not isinstance(subject, LatentSubject):
        raise NotApplicable(f"{subject.name} has no hidden states")
    return subject


def readings(subject: LatentSubject) -> dict[str, tuple[LatentSubject, str]]:
    """Condition -> which subject to read, and what of it: its own readings, and "untrained", the
    hidden states of the same decoder with fresh weights, where it offers `untrained()`."""
    known = getattr(subject, "readings", ("hidden", "embedding"))
    found = {reading: (subject, reading) for reading in known}
    fresh = getattr(subject, "untrained", None)
    return {**found, "untrained": (fresh(), "hidden")} if fresh is not None else found


def read(
    subject: LatentSubject, tokens: IntArray, chosen: BoolArray, reading: str = "hidden"
) -> FloatArray:
    """(N, L) tokens -> (n, D): the reading at the n chosen of N x L positions, row by row.

    At least one must be chosen. A number that is not finite is a ValueError.
    """
    used = int(np.flatnonzero(chosen.any(axis=0)).max()) + 1
    parts = []
    for i in range(0, len(tokens), ROWS_PER_CALL):
        rows = slice(i, i + ROWS_PER_CALL)
        parts.append(subject.hidden(tokens[rows, :used], reading)[chosen[rows, :used]])
    states = np.concatenate(parts)
    if not np.isfinite(states).all():
        name = getattr(subject, "name", type(subject).__name__)
        raise ValueError(f"{name}: its {reading} states are not finite")
    return states


def standardised(train: FloatArray, test: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, D), (m, D) -> both with the mean and the spread of the n taken out, in float64."""
    mean, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    spread[spread < 1e-12 * max(spread.max(), 1.0)] = 1.0  # a constant feature stays a constant
    return (train - mean) / spread, (test - mean) / spread
