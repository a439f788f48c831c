"""Perplexity and bits per byte of held-out text, domain by domain.

    perplexity = exp(sum nats / tokens)        bits per byte = sum nats / ln 2 / bytes

over every token that is a target once: those of the documents and the `end` of each, which has no
bytes. Perplexity depends on the tokenizer, bits per byte does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.probes._sampling import MAX_FLOATS
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import MOST_EXAMPLES, Batch, FloatArray, Task, check_count

__all__ = ["Perplexity", "bits_per_byte", "perplexity"]

RESAMPLES_AT_ONCE = 100


def perplexity(nats: FloatArray, tokens: FloatArray) -> FloatArray:
    """(...) summed -log p and numbers of tokens -> (...): 1 is certainty, V a uniform guess."""
    return np.asarray(np.exp(nats / tokens))


def bits_per_byte(nats: FloatArray, num_bytes: FloatArray) -> FloatArray:
    """(...) summed -log p and bytes of text -> (...): what an ideal code takes for each byte."""
    return np.asarray(nats / np.log(2) / num_bytes)


@dataclass(frozen=True, kw_only=True)
class Perplexity(Probe):
    """Perplexity and bits per byte of the whole held-out split, by domain ("domain=code").

    Every held-out row is read by itself: at its beginning a model knows the domain alone, and it
    never sees further back than a row, so both numbers are higher than with overlapping windows,
    for every model alike. `tokens` and `bytes` say what was counted.
    Interval: percentile bootstrap over documents, `resamples` times; n is their number.
    A task whose tokens stand for no text is not applicable.
    """

    name: ClassVar[str] = "perplexity"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("perplexity", False, "tokens", "exp of the mean -log p of a token"),
        Metric("bits_per_byte", False, "bits", "-log2 p of the text for each of its bytes"),
        Metric("tokens", None, "count", "targets, the end of each document included"),
        Metric("bytes", None, "count", "of the text that the targets stand for"),
    )
    catches: ClassVar[tuple[str, ...]] = ("uniform",)

    num_sequences: int | None = None  # None: the whole split
    resamples: int = 2_000

    def __post_init__(self) -> None:
        check_count(self, "num_sequences", optional=True)
        check_count(self, "resamples", 1, 100_000)

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        size = task.token_bytes()
        if size is None:
            raise NotApplicable(f"the tokens of {task.name} stand for no text")
        batch = task.sample("test", 0, self.num_sequences or MOST_EXAMPLES)
        scored = batch.targets >= 0
        nats = surprisal(subject, batch).sum(axis=1)  # (n,), by row
        tokens = scored.sum(axis=1).astype(np.float64)
        num_bytes = np.where(scored, size[batch.targets], 0).sum(axis=1).astype(np.float64)
        kinds, document = task.kinds(batch.tokens), batch.document[:, 0]
        for kind in np.unique(kinds):
            own = kinds == kind
            _, unit = np.unique(document[own], return_inverse=True)
            # (3, D): of each document
            sums: FloatArray = np.stack(
                [np.bincount(unit, x[own]).astype(np.float64) for x in (nats, tokens, num_bytes)]
            )
            condition, n = f"domain={kind}" if kind else "", sums.shape[1]
            drawn = resampled(sums, self.resamples, rng)
            for metric, formula, below in (
                ("perplexity", perplexity, 1),
                ("bits_per_byte", bits_per_byte, 2),
            ):
                value = float(formula(*sums[[0, below]].sum(axis=1)))
                low = high = float("nan")  # a lone document says nothing of the spread
                if n > 1:
                    low, high = np.quantile(formula(drawn[0], drawn[below]), [0.025, 0.975])
                yield Measurement(metric, value, float(low), float(high), n, condition=condition)
            for metric, counts in (("tokens", sums[1]), ("bytes", sums[2])):
                count = float(counts.sum())
                yield Measurement(metric, count, count, count, n, condition=condition)


def surprisal(subject: Subject, batch: Batch) -> FloatArray:
    """(n, L): -log p of each target in nats, 0 where there is none; few rows at a time."""
    rows = max(1, MAX_FLOATS // (batch.tokens.shape[1] * subject.vocab_size))
    out = np.zeros(batch.tokens.shape)
    for i in range(0, len(batch), rows):
        targets = batch.targets[i : i + rows]
        log_probs = subject.log_probs(batch.tokens[i : i + rows])
        chosen = np.take_along_axis(log_probs, np.maximum(targets, 0)[..., None], axis=2)[..., 0]
        out[i : i + rows] = np.where(targets >= 0, -chosen.astype(np.float64), 0.0)
    return out


def resampled(sums: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """(K, D) sums by document -> (K, resamples): over D documents drawn with replacement."""
    n = sums.shape[1]
    parts = []
    for i in range(0, resamples, RESAMPLES_AT_ONCE):
        times = rng.multinomial(n, np.full(n, 1 / n), size=min(RESAMPLES_AT_ONCE, resamples - i))
        parts.append(sums @ times.T)
    return np.concatenate(parts, axis=1)
