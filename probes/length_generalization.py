"""Length generalization: how far beyond the training length are the answers still right?

NextLat (Teoh et al. 2025, arXiv 2511.05963), section 5.2 and Appendix F.5: a transformer reads
words of one length in training and longer ones here; NextLat's latent dynamics may read them too,
one token at a time, as a recurrent network does.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe, unmeasured
from nextlat_bench.probes._intervals import share_measurement, skipped
from nextlat_bench.probes._sampling import MAX_ROWS, top1
from nextlat_bench.probes._states import states_of
from nextlat_bench.report.statistics import wilson_interval
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    LONGEST,
    Batch,
    FloatArray,
    IntArray,
    Task,
    check_count,
    check_each,
    check_field,
    is_int,
    is_number,
)

__all__ = ["LengthGeneralization", "reach", "recurrent_top1"]


def reach(rates: FloatArray, threshold: float) -> int:
    """(L,) rates, one a position -> the largest length up to which none is under the threshold."""
    return int(np.logical_and.accumulate(rates >= threshold).sum())


def recurrent_top1(
    subject: Subject, tokens: IntArray, after: Callable[[FloatArray], FloatArray] = lambda g: g
) -> IntArray:
    """(n, T) -> (n, T): the likeliest answer at each position by the latent dynamics.

        g[0] = h[0],    g[t] = after(p(g[t-1], x[t])),    top-1 of head(g[t])

    The trunk reads the first token alone. `after` is a change to each state (n, D) that follows, by
    default none. NotApplicable where there are no latent dynamics.
    """
    model = states_of(subject)
    out = np.empty(tokens.shape, dtype=np.int64)
    for i in range(0, len(tokens), MAX_ROWS):
        words = tokens[i : i + MAX_ROWS]
        hidden = model.hidden(words[:, :1])[:, 0]
        for t in range(words.shape[1]):
            if t > 0:
                following = model.predict_hidden(hidden, words[:, t])
                if following is None:
                    raise NotApplicable(f"{subject.name} predicts no next hidden state")
                hidden = after(following)
            out[i : i + MAX_ROWS, t] = model.read_out(hidden).argmax(axis=1)
    return out


@dataclass(frozen=True, kw_only=True)
class LengthGeneralization(Probe):
    """Held-out words longer than those of training, read by the trunk and, where the subject has
    latent dynamics, by these alone ("recurrent"): `recurrent_top1`.

    Conditions "reading=R,length=L", for L = 1..multiple times the training length and the `far`
    lengths, as far as the task's words go. `accuracy`: the share of words whose answer at position
    L is right. `whole`: the share right at every position up to L, which is what the paper's
    released evaluator plots. Intervals are Wilson's over words.

    Condition "reading=R". `reach`: the largest L such that accuracy is at least `threshold` at
    every position up to L, of all that were read. Its bounds are the reaches of Wilson's lower and
    upper bounds, position by position.

    A subject without latent dynamics has no recurrent reading: no value, never zero.
    """

    num_words: int = 1_000
    multiple: int = 3
    far: tuple[int, ...] = (48, 60, 120, 240)
    threshold: float = 0.95

    name: ClassVar[str] = "length_generalization"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", True, "share", "words whose answer at this position is right"),
        Metric("whole", True, "share", "words right at every position up to this one"),
        Metric("reach", True, "positions", "up to where accuracy stays above the threshold"),
    )
    catches: ClassVar[tuple[str, ...]] = ("uniform", "forgetful", "window", "drifting", "counting")

    def __post_init__(self) -> None:
        check_count(self, "num_words")
        check_count(self, "multiple", most=LONGEST)
        check_each(self, "far", lambda n: is_int(n) and 0 < n <= LONGEST, "positive integers")
        valid = is_number(self.threshold, 1) and self.threshold > 0
        check_field(self, "threshold", valid, "a share above 0")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        lengths, batch = self.words(task)
        for reading, read in (("trunk", top1), ("recurrent", recurrent_top1)):
            yield from self.curve(reading, lengths, batch, partial(read, subject))

    def words(self, task: Task) -> tuple[list[int], Batch]:
        """The lengths at which answers are judged, and the held-out words, of the longest."""
        if not task.parallel:
            raise NotApplicable(f"the task {task.name} has no answer at every position")
        near = range(1, min(self.multiple * task.max_length, task.longest) + 1)
        lengths = sorted({*near, *(length for length in self.far if length <= task.longest)})
        batch = task.of_length("test", 0, self.num_words, lengths[-1])
        if batch is None:
            raise NotApplicable(f"the sequences of the task {task.name} have one length")
        return lengths, batch

    def curve(
        self, name: str, lengths: list[int], batch: Batch, read: Callable[[IntArray], IntArray]
    ) -> Iterator[Measurement]:
        """The rows of one reading, which answers tokens (n, L) at each position (n, L)."""
        reading = f"reading={name}"
        try:
            right = read(batch.tokens) == batch.targets
        except NotApplicable as reason:
            yield from missing(reading, lengths, str(reason))
            return
        why = Counter({"beyond the split": self.num_words - len(batch)})
        whole = np.logical_and.accumulate(right, axis=1)
        for length in lengths:
            condition = f"{reading},length={length}"
            for metric, hits in (("accuracy", right), ("whole", whole)):
                yield share_measurement(metric, hits[:, length - 1], why=why, condition=condition)
        bounds = [wilson_interval(int(hits), len(right)) for hits in right.sum(axis=0)]  # (L, 2)
        value, low, high = (
            reach(np.array(rates), self.threshold)
            for rates in (right.mean(axis=0), *zip(*bounds, strict=True))
        )
        yield Measurement("reach", value, low, high, len(right), *skipped(why), condition=reading)


def missing(reading: str, lengths: list[int], reason: str) -> Iterator[Measurement]:
    """The same rows without values: a dash in every table, never a zero."""
    for length in lengths:
        for metric in ("accuracy", "whole"):
            yield unmeasured(metric, reason, f"{reading},length={length}")
    yield unmeasured("reach", reason, reading)
