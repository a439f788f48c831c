"""Hidden states: who has them, which there are, and those at some positions."""

import numpy as np

from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.subject import LatentSubject, Subject
from nextlat_bench.tasks._core import BoolArray, FloatArray, IntArray

__all__ = ["ROWS_PER_CALL", "own_readings", "read", "readings", "standardised", "states_of"]

ROWS_PER_CALL = 64


def states_of(subject: Subject) -> LatentSubject:
    """The subject itself; NotApplicable where it has no hidden states, and a ValueError where it
    has them and lacks what is read with them."""
    if isinstance(subject, LatentSubject):
        return subject
    if hasattr(subject, "hidden"):
        lacking = [name for name in ("read_out", "predict_hidden") if not hasattr(subject, name)]
        raise ValueError(f"{subject.name} has hidden, but not {' and '.join(lacking)}")
    raise NotApplicable(f"{subject.name} has no hidden states")


def own_readings(subject: LatentSubject) -> tuple[str, ...]:
    """What its `hidden` can be asked for."""
    return tuple(getattr(subject, "readings", ("hidden", "embedding")))


def readings(subject: LatentSubject) -> dict[str, tuple[LatentSubject, str]]:
    """Condition -> which subject to read, and what of it: its own readings, and "untrained", the
    hidden states of the same decoder with fresh weights, where it offers `untrained()`."""
    found = {reading: (subject, reading) for reading in own_readings(subject)}
    fresh = getattr(subject, "untrained", None)
    return {**found, "untrained": (fresh(), "hidden")} if fresh is not None else found


def read(
    subject: LatentSubject, tokens: IntArray, chosen: BoolArray, reading: str = "hidden"
) -> FloatArray:
    """(N, L) tokens -> (n, D): the reading at the n chosen of N x L positions, row by row.

    At least one must be chosen. A number that is not finite is a ValueError.
    """
    name = getattr(subject, "name", type(subject).__name__)
    used = int(np.flatnonzero(chosen.any(axis=0)).max()) + 1
    parts = []
    for i in range(0, len(tokens), ROWS_PER_CALL):
        asked = tokens[i : i + ROWS_PER_CALL, :used]
        states = np.asarray(subject.hidden(asked, reading))
        if states.ndim != 3 or states.shape[:2] != asked.shape:
            raise ValueError(f"{name}.hidden gave {states.shape}: expected {asked.shape} and a D")
        parts.append(states[chosen[i : i + ROWS_PER_CALL, :used]])
    states = np.concatenate(parts)
    if not np.isfinite(states).all():
        raise ValueError(f"{name}: its {reading} states are not finite")
    return states


def standardised(train: FloatArray, test: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, D), (m, D) -> both with the mean and the spread of the n taken out, in float64."""
    mean, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    spread[spread < 1e-12 * max(spread.max(), 1.0)] = 1.0  # a constant feature stays a constant
    return (train - mean) / spread, (test - mean) / spread
