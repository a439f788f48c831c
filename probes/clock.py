"""Do hidden states count the tokens they have read, and is it that which ends a recurrent reading?

    m[t] = E_words h[t],    t = 2..T,  T the training length
    v = the direction in which m[t] varies most,    c = mean_t m[t]
    g[1] = h[1],    g[t] = r - v (v . (r - c))    with r = p(g[t-1], x[t])

A belief state of words of free length knows the answer so far and needs no count. A hidden state
that has one may be right up to T, and beyond it go where the latent dynamics (p) were never taught.
Here one direction is held where it is on average, and the rest goes on by itself: if the answers
then stay right for longer, the dynamics knew how to go on, and this direction ended the reading
first. It is the mean that counts: in a single state the answer may move this coordinate as much.

Ours, not the paper's: NextLat (Teoh et al. 2025, arXiv 2511.05963), section 5.2, reads g without
this; put together after the recurrent reading of A5's models had been seen. A linear direction is
removed as in Ravfogel et al. 2020 (arXiv 2004.07667).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, unmeasured
from nextlat_bench.probes._states import read, states_of
from nextlat_bench.probes.length_generalization import LengthGeneralization, recurrent_top1
from nextlat_bench.probes.rank import NUM_GROUPS, groups_of, jackknife
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import FloatArray, Task, check_count

__all__ = ["Clock", "Held", "position_share"]


def position_share(hidden: FloatArray) -> float:
    """(n, T, D) hidden states of n words -> the share of their variance that position explains.

        sum_t |m[t] - m|^2 / sum_t E_words |h[t] - m|^2,    m[t] = E_words h[t],  m = mean_t m[t]

    What n words are expected to add to the former by chance is taken off, so that it may be a
    little below 0 where position explains nothing (the probe then says 0); nan where no state
    differs from another.
    """
    states = hidden.astype(np.float64)
    states -= states.mean(axis=(0, 1))
    n, total = len(states), float(np.square(states).sum())
    states -= states.mean(axis=1, keepdims=True)  # each word's own course
    between = float(np.square(states.mean(axis=0)).sum())
    chance = (float(np.square(states).sum()) - n * between) / (n * (n - 1))
    return n * (between - chance) / total if total else float("nan")


class Held:
    """Holds hidden states at their average in the directions in which their mean varies most with
    position."""

    def __init__(self, hidden: FloatArray, directions: int) -> None:
        """From (n, T, D) hidden states; at most T - 1 directions."""
        means = hidden.mean(axis=0, dtype=np.float64)
        self.centre = means.mean(axis=0)  # (D,)
        self.directions = np.linalg.svd(means - self.centre, full_matrices=False)[2][:directions]

    def __call__(self, states: FloatArray) -> FloatArray:
        """(n, D) -> (n, D), of the same kind."""
        along = (states - self.centre) @ self.directions.T  # (n, directions)
        return np.asarray(states - along @ self.directions, dtype=states.dtype)


@dataclass(frozen=True, kw_only=True)
class Clock(LengthGeneralization):
    """The recurrent reading of `length_generalization`, with the hidden states' count held still.

    The direction is found in `num_counted` words of the validation split, of the training length,
    from their second position on: what is held are predicted states, and the first is never one.
    The words that are then read are those of `length_generalization`, and so are `accuracy`,
    `whole` and `reach`, under "reading=unclocked,length=L" and "reading=unclocked".

    `position_share`: of the same validation states, the share of variance that position explains.
    Its interval is a jackknife over ten groups of words. A subject without latent dynamics has this
    alone; one without hidden states is not applicable.
    What it cannot see: a count that is no straight line in the hidden states, or that a model uses
    to be right. Nor does it suit dynamics whose own states lie elsewhere than the trunk's: holding
    then moves them to where they never are, and right answers become wrong.
    """

    num_counted: int = 2_000
    directions: int = 1

    name: ClassVar[str] = "clock"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "position_share", False, "share", "variance of hidden states that position explains"
        ),
        *LengthGeneralization.metrics,
    )
    requires: ClassVar[frozenset[str]] = frozenset({"hidden"})
    catches: ClassVar[tuple[str, ...]] = ("drifting", "counting")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "num_counted", NUM_GROUPS)
        check_count(self, "directions")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        lengths, batch = self.words(task)
        counted = task.of_length("validation", 0, self.num_counted, task.max_length)
        assert counted is not None  # words have any length
        if task.max_length < self.directions + 2:
            raise NotApplicable(f"words of {task.max_length} have too few positions")
        if len(counted) < NUM_GROUPS:
            raise NotApplicable(f"the validation split has fewer than {NUM_GROUPS} words")
        every = np.ones(counted.tokens.shape, dtype=np.bool_)
        hidden = read(states_of(subject), counted.tokens, every).reshape(*every.shape, -1)[:, 1:]
        share = position_share(hidden)
        if np.isnan(share):
            yield unmeasured("position_share", "no hidden state differs from another")
        else:
            groups = groups_of(len(hidden))
            half = jackknife([position_share(np.delete(hidden, its, axis=0)) for its in groups])
            value, low, high = np.clip((share, share - half, share + half), 0.0, 1.0)
            yield Measurement("position_share", value, low, high, len(hidden))
        held = Held(hidden, self.directions)
        yield from self.curve(
            "unclocked", lengths, batch, lambda w: recurrent_top1(subject, w, held)
        )
