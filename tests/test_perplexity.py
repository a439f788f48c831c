"""Perplexity and bits per byte on subjects whose answer is known; counts against the files."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from test_language import files_of, whole
from texts import Fixed, texts_task, write_texts

from nextlat_bench.known import KNOWN
from nextlat_bench.presets import language as presets
from nextlat_bench.probes import perplexity as probe_module
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.perplexity import Perplexity, bits_per_byte, perplexity, resampled
from nextlat_bench.tasks.countdown import Countdown
from nextlat_bench.tasks.language import Language


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Language:
    place = tmp_path_factory.mktemp("texts") / "logs"
    write_texts(place)
    return texts_task(place)


def measured(subject, task, **parameters):
    rows = Perplexity(**parameters).measure(subject, task, np.random.default_rng(0))
    return {(row.metric, row.condition): row for row in rows}


def uniform(task) -> Fixed:
    return Fixed(np.full(task.vocab_size, -np.log(task.vocab_size)))


def test_uniform_over_the_vocabulary(task):
    """V, and log2(V) for each token; tokens and bytes are those of the files."""
    found, files = measured(uniform(task), task), files_of(task, "test")
    num_bytes = sum(len(text.encode()) for text in files)
    batch = whole(task, "test")
    tokens = int((batch.targets >= 0).sum())
    where = "domain=text"
    assert {condition for _, condition in found} == {where}
    assert found["tokens", where].value == tokens
    assert found["bytes", where].value == num_bytes
    assert found["perplexity", where].value == pytest.approx(task.vocab_size)
    assert found["perplexity", where].low == pytest.approx(task.vocab_size)
    bits = found["bits_per_byte", where]
    assert bits.value == pytest.approx(np.log2(task.vocab_size) * tokens / num_bytes)
    assert bits.low < bits.value < bits.high
    assert all(row.n == len(files) for row in found.values())


def test_a_unigram_model_by_hand(task):
    """Its probabilities are the counts over the training rows, plus one."""
    train = whole(task, "train").targets
    counts = np.bincount(train[train >= 0], minlength=task.vocab_size) + 1.0
    found = measured(Fixed(np.log(counts / counts.sum())), task)
    times = Counter(t for row in whole(task, "test").targets.tolist() for t in row if t >= 0)
    nats = sum(-k * np.log(counts[token] / counts.sum()) for token, k in times.items())
    num_bytes = sum(len(text.encode()) for text in files_of(task, "test"))
    assert times[task.vocab.end] == len(files_of(task, "test"))
    value = found["perplexity", "domain=text"].value
    assert value == pytest.approx(np.exp(nats / times.total()))
    assert 2 < value < task.vocab_size / 2
    assert found["bits_per_byte", "domain=text"].value == pytest.approx(
        nats / np.log(2) / num_bytes
    )


class Memory(Fixed):
    """Has read the rows: gives their targets half of the probability, or all of it."""

    def __init__(self, task, share) -> None:
        super().__init__(np.full(task.vocab_size, -np.log(task.vocab_size)))
        batch = whole(task, "test")
        self.rows = {bytes(row): t for row, t in zip(batch.tokens, batch.targets, strict=True)}
        self.share = share

    def log_probs(self, tokens):
        out = np.full((*tokens.shape, self.vocab_size), -np.inf)
        targets = np.stack([self.rows[bytes(row)] for row in tokens])
        np.put_along_axis(out, np.maximum(targets, 0)[..., None], np.log(self.share), axis=2)
        return out


def test_certainty_and_even_odds(task, monkeypatch):
    monkeypatch.setattr(probe_module, "MAX_FLOATS", 5 * 24 * 320)  # five rows at a time
    for share, expected in ((1.0, 1.0), (0.5, 2.0)):
        found = measured(Memory(task, share), task)
        assert found["perplexity", "domain=text"].value == pytest.approx(expected)


def test_domains_are_apart():
    """A subject that knows the prose's words alone."""
    task = presets.run("gpt", "smoke").task
    batch = whole(task, "test")
    prose = task.kinds(batch.tokens) == "prose"
    seen = batch.targets[prose]
    counts = np.bincount(seen[seen >= 0], minlength=task.vocab_size) + 1e-6
    found = measured(Fixed(np.log(counts / counts.sum())), task)
    values = {d: found["bits_per_byte", f"domain={d}"].value for d in ("code", "prose")}
    assert values["prose"] < values["code"] / 1.2
    tokens = [found["tokens", f"domain={d}"].value for d in ("code", "prose")]
    assert tokens == [(batch.targets[~prose] >= 0).sum(), (seen >= 0).sum()]


def test_intervals_come_from_documents():
    """Of two documents, a resample holds one twice, or each once, half of the time."""
    sums = np.array([[1.0, 3.0], [1.0, 1.0]])
    drawn = resampled(sums, 4_000, np.random.default_rng(0))
    assert drawn.shape == (2, 4_000)
    shares = Counter(drawn[0].tolist())
    assert set(shares) == {2.0, 4.0, 6.0}
    assert shares[4.0] / 4_000 == pytest.approx(0.5, abs=0.03)
    assert (drawn[1] == 2).all()


def test_formulas():
    assert perplexity(np.array([6 * np.log(5)]), np.array([6.0])) == pytest.approx([5])
    assert bits_per_byte(np.array([8 * np.log(2)]), np.array([4.0])) == pytest.approx([2])


def test_what_has_no_text_is_not_applicable():
    task = Countdown(num_inputs=2, num_pauses=0)
    with pytest.raises(NotApplicable, match="the tokens of countdown stand for no text"):
        next(Perplexity().measure(KNOWN["uniform"](task), task, np.random.default_rng(0)))


def test_fewer_rows_and_one_document(tmp_path: Path):
    write_texts(tmp_path, 12)
    task = texts_task(tmp_path)
    found = measured(uniform(task), task, num_sequences=1)
    assert found["tokens", "domain=text"].n == 1
    assert np.isnan(found["perplexity", "domain=text"].low)


def test_the_interval_holds_95_percent_of_the_resamples(task, monkeypatch):
    nats, ones = np.linspace(0, 1, 1001), np.ones(1001)
    monkeypatch.setattr(probe_module, "resampled", lambda *_: np.stack([nats, ones, ones]))
    row = measured(uniform(task), task)["perplexity", "domain=text"]
    assert (row.low, row.high) == pytest.approx((np.exp(0.025), np.exp(0.975)))
