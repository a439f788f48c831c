"""Can the world's state be read off the hidden states linearly?

A logistic regression (Alain and Bengio 2017; Li et al. 2023 on Othello) from each hidden state to
the state that the world is in there, trained and tested on different sequences.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.probes._intervals import share_of_clusters, skipped
from nextlat_bench.probes._sampling import states_along, world_of
from nextlat_bench.probes._states import read, readings, standardised, states_of
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    Batch,
    BoolArray,
    FloatArray,
    IntArray,
    Task,
    World,
    check_count,
    check_share,
)

__all__ = ["StateProbe", "linear_predictions", "state_labels"]

MAX_ITERATIONS = 100  # five times as many gained 0.6 points on hidden states nearly collinear
TOLERANCE = 1e-5  # scikit-learn's 1e-4 stops after a handful of steps when there are many classes


def linear_predictions(hidden: FloatArray, labels: IntArray, test_hidden: FloatArray) -> IntArray:
    """(n, D), (n,), (m, D) -> (m,): labels predicted by a logistic regression on n examples.

    Multinomial, L2 of strength 1 (scikit-learn's default), features standardised by the n
    examples, at most 100 steps of L-BFGS. Deterministic. Needs at least two different labels.
    """
    from sklearn.exceptions import ConvergenceWarning  # seconds to import
    from sklearn.linear_model import LogisticRegression

    train, test = standardised(hidden, test_hidden)
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit is part of the definition
        model.fit(train, labels)
    return np.asarray(model.predict(test), dtype=np.int64)


def state_labels(world: World, states: IntArray) -> IntArray:
    """(n,) states -> (n,): what the probe must read, -1 where there is nothing to.

    A world whose states also hold what no token changes (taxi's destination, which stands in the
    prompt) names the part that moves by a method `node(states)`; others give the whole state.
    States that are records of several fields have no label.
    """
    node = getattr(world, "node", None)
    if node is None and states.dtype.names is not None:
        raise NotApplicable(f"a state of {type(world).__name__} is a record, not one label")
    return np.asarray(states if node is None else node(states), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class StateProbe(Probe):
    """Accuracy of a linear read-out of the world's state (taxi: the intersection).

    Definition: `linear_predictions` of `state_labels` at the scored positions of held-out
    sequences, the first 1 - test_share of the sequences for training and the rest for the test.
    Conditions: "hidden", the hidden states after the final norm, and "trunk", what the heads of MTP
    read, where the subject has it; beside them what the number must beat: "untrained" (the same
    decoder with fresh weights, where the subject offers `untrained()`), "embedding" (of the current
    token) and "majority" (the commonest state).
    Interval: clustered by test sequence. A test position whose state occurs nowhere in training
    cannot be right: it is left out and counted as skipped. States that are met less than twice on
    average are not asked for (of a board game nearly every one is new).
    """

    name: ClassVar[str] = "state_probe"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("state_accuracy", True, "share", "test positions whose state is read off right"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"world", "hidden"})

    num_sequences: int = 512
    test_share: float = 0.25

    def __post_init__(self) -> None:
        check_count(self, "num_sequences", 2)
        check_share(self, "test_share")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        """Deterministic: the first held-out sequences, `rng` is not used."""
        world, model = world_of(task), states_of(subject)
        batch = task.sample("test", 0, self.num_sequences)
        chosen, labels = labelled_positions(task, world, batch)
        sequence = np.nonzero(chosen)[0]  # (n,): of each chosen position
        train = sequence < round((1 - self.test_share) * len(batch))
        seen, visits = np.unique(labels[train], return_counts=True)
        if len(seen) < 2:
            raise NotApplicable(f"the sequences of {task.name} visit fewer than two states")
        if len(seen) > visits.sum() / 2:
            raise NotApplicable(
                f"{len(seen):,} states at {visits.sum():,} positions of {task.name} are too many "
                "to learn: a world's method node(states) can name a part of the state"
            )
        test = ~train & np.isin(labels, seen)
        if not test.any():
            raise NotApplicable(f"no state of {task.name} occurs both in training and in test")
        unseen = int((~train & ~test).sum())
        why = Counter({"positions whose state occurs nowhere in training": unseen})

        for condition, (source, reading) in readings(model).items():
            features = read(source, batch.tokens, chosen, reading)
            predicted = linear_predictions(features[train], labels[train], features[test])
            yield accuracy(predicted == labels[test], sequence[test], why, condition)
        yield accuracy(labels[test] == seen[visits.argmax()], sequence[test], why, "majority")


def accuracy(
    right: BoolArray, sequence: IntArray, why: Counter[str], condition: str
) -> Measurement:
    """(n,), (n,) which test positions are read off right, and the sequence of each."""
    interval = share_of_clusters(right, sequence)
    return Measurement("state_accuracy", *interval, len(right), *skipped(why), condition)


def labelled_positions(task: Task, world: World, batch: Batch) -> tuple[BoolArray, IntArray]:
    """(N, L) which positions are scored and have a label, and (n,) their labels, row by row."""
    first = task.prompts("test", 0, 1).shape[1] - 1  # where the world's first state is known
    states = states_along(world, batch.tokens, first + 1)
    labels = np.full_like(batch.tokens, -1, dtype=np.int64)
    for t in range(first, batch.tokens.shape[1]):
        labels[:, t] = state_labels(world, states[:, t - first])
    chosen = (batch.targets >= 0) & (labels >= 0)
    return chosen, labels[chosen]
