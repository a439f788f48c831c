"""The contract of a probe, and the rows it yields."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar

import numpy as np

from nextlat_bench.subject import Subject, check_vocabulary
from nextlat_bench.tasks._core import Task

__all__ = ["Measurement", "Metric", "NotApplicable", "Probe", "unmeasured"]


class NotApplicable(ValueError):
    """The task or the subject lacks what the probe requires; the message says what."""


@dataclass(frozen=True)
class Metric:
    """One column that a probe fills. `higher_is_better` None: neither direction is good."""

    name: str
    higher_is_better: bool | None
    unit: str  # "share", "count", "nats", ...
    meaning: str  # one line


@dataclass(frozen=True)
class Measurement:
    """One value with its interval. `n` trials counted, `n_skipped` left out and why."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    n_skipped: int = 0
    skipped_because: str = ""
    condition: str = ""  # e.g. "p=0.75,replace=random"


def unmeasured(metric: str, why: str, condition: str = "") -> Measurement:
    """A row that says why it has no value."""
    nan = float("nan")
    return Measurement(metric, nan, nan, nan, 0, 0, why, condition)


Measure = Callable[..., Iterator[Measurement]]


def of_one_vocabulary(measure: Measure) -> Measure:
    """The same, of a subject that has the task's tokens."""

    @wraps(measure)
    def checked(
        probe: "Probe", subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        check_vocabulary(subject, task)
        return measure(probe, subject, task, rng)

    return checked


class Probe(ABC):
    """A frozen, keyword-only dataclass: its fields are its parameters.

    `name` is the file's name. `catches` and `misses` name the known-answer subjects that it can and
    cannot tell from the true world model; where these or `requires` are not given, there are none.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    requires: ClassVar[frozenset[str]] = frozenset()  # of: world, hidden, dynamics, coordinates
    catches: ClassVar[tuple[str, ...]] = ()
    misses: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Whoever asks it, a probe refuses a subject of another vocabulary."""
        super().__init_subclass__(**options)
        if "measure" in vars(cls):
            cls.measure = of_one_vocabulary(cls.measure)  # type: ignore[method-assign]

    @abstractmethod
    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        """Yields one measurement per metric and condition; raises NotApplicable."""

    def exhibit(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        """What no row can hold and a figure needs, as JSON, given what `measure` was given; kept
        beside the records. None: there is nothing of the kind."""
        return None
