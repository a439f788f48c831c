"""Linear probes of tokens ahead, on states in which one distance was planted."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_language import whole
from texts import Fixed, texts_task, write_texts

from nextlat_bench.model import build
from nextlat_bench.presets import a5 as a5_preset
from nextlat_bench.presets import language as presets
from nextlat_bench.probes import lookahead
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.lookahead import Lookahead, class_log_probs
from nextlat_bench.report.statistics import mean_interval
from nextlat_bench.tasks.language import Language
from nextlat_bench.trained import TrainedModel

PLANTED = 3


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Language:
    place = tmp_path_factory.mktemp("texts") / "logs"
    write_texts(place, 200)
    return texts_task(place)


class Planted(Fixed):
    """h[t] holds the token `PLANTED` steps ahead, in random directions, and noise."""

    name = "planted"

    def __init__(self, task) -> None:
        super().__init__(np.zeros(task.vocab_size))
        batch = whole(task, "test")
        self.rows = {bytes(row): t for row, t in zip(batch.tokens, batch.targets, strict=True)}
        self.directions = np.random.default_rng(1).normal(size=(task.vocab_size + 1, 48))

    def hidden(self, tokens, reading="hidden"):
        if reading == "embedding":
            return self.directions[tokens]
        targets = np.stack([self.rows[bytes(row)] for row in tokens])
        ahead = np.full_like(targets, -1)
        ahead[:, : 1 - PLANTED] = targets[:, PLANTED - 1 :]
        return self.directions[ahead]

    def predict_hidden(self, hidden, tokens):
        return None

    def read_out(self, hidden):
        raise NotImplementedError


def measured(subject, task, **parameters):
    probe = Lookahead(num_sequences=150, num_tokens=60, passes=20, **parameters)
    rows = probe.measure(subject, task, np.random.default_rng(0))
    return {(row.metric, row.condition): row for row in rows}


def test_the_planted_distance_is_found(task):
    found = measured(Planted(task), task, distances=(1, PLANTED, 5))

    def value(metric, k, reading):
        return found[metric, f"ahead={k},reading={reading}"].value

    # what is rarer than the classes is never right
    assert value("accuracy", PLANTED, "hidden") > 0.9
    assert value("cross_entropy", PLANTED, "hidden") < 0.5
    for k in (1, 5):
        frequency = value("accuracy", k, "frequency")
        assert value("accuracy", k, "hidden") < frequency + 0.25
        assert value("cross_entropy", k, "hidden") > 3 * value("cross_entropy", PLANTED, "hidden")
    assert value("accuracy", PLANTED, "embedding") < 0.4
    row = found["accuracy", f"ahead={PLANTED},reading=hidden"]
    assert row.low < row.value <= row.high
    counts = [found["accuracy", f"ahead={k},reading=hidden"].n for k in (1, PLANTED, 5)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]


def test_counts_and_documents_by_hand(task):
    """A pair lies in one row; the last quarter of the documents are the test."""
    batch = task.sample("test", 0, 150)
    ids = sorted(set(batch.document[:, 0].tolist()))
    late = ids[round(0.75 * len(ids)) :]
    found = measured(Planted(task), task, distances=(2,))
    pairs = 0
    for row in range(len(batch)):
        for t in range(batch.tokens.shape[1] - 1):
            if batch.document[row, 0] in late and batch.document[row, t] >= 0:
                pairs += batch.targets[row, t + 1] >= 0
    assert found["accuracy", "ahead=2,reading=hidden"].n == pairs


def test_frequency_is_what_the_commonest_tokens_give(task):
    found = measured(Planted(task), task, distances=(1,))
    batch = task.sample("test", 0, 150)
    late = np.unique(batch.document[:, 0], return_inverse=True)[1]
    late = late >= round(0.75 * (late.max() + 1))
    train, test = batch.targets[~late], batch.targets[late]
    counts = np.bincount(train[train >= 0], minlength=task.vocab_size)
    right = (test[test >= 0] == counts.argmax()).mean()
    assert found["accuracy", "ahead=1,reading=frequency"].value == pytest.approx(right)


def test_other_tokens_are_never_right():
    log_probs = np.log([[0.1, 0.9], [0.8, 0.2]])
    rows = list(lookahead.scores(log_probs, np.array([1, 0]), np.array([0, 1]), "x"))
    assert rows[0].value == 0.5
    assert rows[1].value == pytest.approx(-np.log(0.9 * 0.8) / 2)


def test_as_good_as_an_exact_regression():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4_000, 8)) * np.array([1, 1, 1, 1, 5, 5, 0.1, 0.1]) + 3
    label = ((x[:, :4] - 3) @ rng.normal(size=(4, 5)) + rng.gumbel(size=(4_000, 5))).argmax(axis=1)
    ours = class_log_probs(x[:3000], label[:3000], 5, x[3000:], passes=20)
    exact = LogisticRegression(max_iter=500).fit(
        (x[:3000] - 3) / x[:3000].std(axis=0), label[:3000]
    )
    theirs = exact.predict_log_proba((x[3000:] - 3) / x[:3000].std(axis=0))
    costs = [-p[np.arange(1_000), label[3000:]].mean() for p in (ours, theirs)]
    assert costs[0] == pytest.approx(costs[1], rel=0.02)
    np.testing.assert_array_equal(
        ours, class_log_probs(x[:3000], label[:3000], 5, x[3000:], passes=20)
    )


def test_an_untrained_decoder_stands_beside():
    run = presets.run("gpt", "smoke")
    subject = TrainedModel(run, build(run))
    probe = Lookahead(num_sequences=64, distances=(1, 40), num_tokens=30, passes=1)
    rows = list(probe.measure(subject, run.task, np.random.default_rng(0)))
    far = [row for row in rows if row.skipped_because == "no sequence is this long"]
    assert [(r.metric, r.condition, r.n) for r in far] == [
        (metric, "ahead=40,reading=hidden", 0) for metric in ("accuracy", "cross_entropy")
    ]
    assert all(np.isnan(row.value) for row in far)
    readings = {row.condition for row in rows if row not in far}
    assert readings == {
        f"ahead=1,reading={reading}"
        for reading in ("hidden", "embedding", "untrained", "frequency")
    }


def test_what_has_no_hidden_states_is_not_applicable(task):
    with pytest.raises(NotApplicable, match="fixed has no hidden states"):
        next(Lookahead().measure(Fixed(np.zeros(len(task.vocab))), task, np.random.default_rng(0)))


def test_answers_at_the_same_position_lie_not_ahead():
    run = a5_preset.run("gpt", "smoke", 0)
    subject = TrainedModel(run, build(run))
    with pytest.raises(NotApplicable, match="no tokens that lie ahead"):
        list(Lookahead().measure(subject, run.task, np.random.default_rng(0)))


@pytest.mark.parametrize("bad", [(), (0,), (1.5,), 3])
def test_bad_distances(bad):
    with pytest.raises(ValueError, match=r"Lookahead\.distances = "):
        Lookahead(distances=bad)


def test_test_positions_go_together_by_document(task, monkeypatch):
    seen = []

    def spy(log_probs, labels, document, condition):
        seen.append(document)
        return ()

    monkeypatch.setattr(lookahead, "scores", spy)
    monkeypatch.setattr(lookahead, "class_log_probs", lambda *_: np.zeros((1, 1)))
    measured(Planted(task), task, distances=(1,))
    of = task.sample("test", 0, 150).document[:, 0]
    ids = np.unique(of)
    late = ids[round(0.75 * len(ids)) :]
    assert len(np.unique(seen[0])) == len(late) < np.isin(of, late).sum()  # of several rows


def test_both_intervals_are_over_documents() -> None:
    """Two positions of each of two documents: t of one degree of freedom."""
    log_probs = np.log([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6]])
    rows = lookahead.scores(log_probs, np.zeros(4, dtype=int), np.array([3, 3, 5, 5]), "x")
    row = {row.metric: row for row in rows}["cross_entropy"]
    assert row.high == pytest.approx(mean_interval(-np.log([0.8, 0.4]))[1])


def test_classes_are_the_commonest_tokens_of_the_training_part(task, monkeypatch):
    """In their order, which that of all documents together is not."""
    seen = []

    def spy(hidden, labels, num_classes, test, passes):
        seen.append(np.bincount(labels, minlength=num_classes)[:-1])
        return np.zeros((len(test), num_classes))

    monkeypatch.setattr(lookahead, "class_log_probs", spy)
    measured(Planted(task), task, distances=(1,))
    assert (np.diff(seen[0]) <= 0).all()


@pytest.mark.parametrize(
    ("num", "k", "why"), [(1, 1, "too few"), (2, 1, "too few"), (8, 999, "no")]
)
def test_what_is_not_measured_says_why(task, monkeypatch, num, k, why):
    """Of one document or two, none is left for the test."""
    monkeypatch.setattr(lookahead, "documents", lambda batch: np.arange(len(batch)) % num)
    for row in measured(Planted(task), task, distances=(k,)).values():
        assert np.isnan(row.value)
        assert row.skipped_because.startswith(why)
