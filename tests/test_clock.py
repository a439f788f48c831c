"""The count in hidden states, and the recurrent reading without it, where both are known."""

import numpy as np
import pytest
from coded import Frozen
from hypothesis import given
from hypothesis import strategies as st

from nextlat_bench.known import known_subject
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.clock import Clock, Held, position_share
from nextlat_bench.probes.length_generalization import LengthGeneralization, recurrent_top1
from nextlat_bench.taggers import Counting
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.path_star import PathStar

TASK = A5()
WORDS = 300
PROBE, PLAIN = Clock(num_words=WORDS), LengthGeneralization(num_words=WORDS)


def rows_of(subject, task=TASK, probe=PROBE):
    rows = list(probe.measure(subject, task, np.random.default_rng(0)))
    assert len({(row.metric, row.condition) for row in rows}) == len(rows)
    return {(row.metric, row.condition): row for row in rows}


def test_rows_are_those_of_the_recurrent_reading():
    expected = [
        (metric, condition.replace("recurrent", "unclocked"))
        for metric, condition in rows_of(known_subject("oracle", TASK), probe=PLAIN)
        if "recurrent" in condition
    ]
    for name in ("oracle", "drifting", "counting"):
        assert list(rows_of(known_subject(name, TASK))) == [("position_share", ""), *expected]


def test_a_count_that_ends_the_recurrent_reading_is_found_and_held():
    subject = known_subject("counting", TASK)
    plain, held = rows_of(subject, probe=PLAIN), rows_of(subject)
    for reading in ("trunk", "recurrent"):
        assert plain["reach", f"reading={reading}"].value == 12
        assert plain["accuracy", f"reading={reading},length=13"].value < 0.1
    assert held["reach", "reading=unclocked"].value == 36
    assert held["whole", "reading=unclocked,length=36"].value == 1

    # a one-hot answer has a variance of 59/60, the counts 2/8 to 12/8 one of 10/64
    truth = (10 / 64) / (10 / 64 + 59 / 60)
    row = held["position_share", ""]
    assert row.n == PROBE.num_counted
    assert row.low < truth < row.high < row.low + 0.001


@pytest.mark.parametrize("name", ["oracle", "drifting"])
def test_states_that_do_not_count_are_left_as_they_are(name):
    """Nothing but chance is held still: all goes on, right or wrong, as if nothing were."""
    subject = known_subject(name, TASK)
    plain, held = rows_of(subject, probe=PLAIN), rows_of(subject)
    share = held.pop(("position_share", ""))
    assert 0 <= share.low <= share.value <= share.high < 0.001
    assert share.low == 0
    recurrent = [row for row in plain.values() if "recurrent" in row.condition]
    assert [(r.value, r.low, r.high, r.n) for r in held.values()] == [
        (r.value, r.low, r.high, r.n) for r in recurrent
    ]


def test_position_share_by_hand():
    course = np.array([[0.0, 1], [2, 1], [4, 4]])
    assert position_share(np.stack([course, course])) == pytest.approx(1)  # the same in each word
    # position moves the first number by +-1, words the second by +-3: 1 / (1 + 9)
    words = np.array([[[s, 3 * w] for s in (-1, 1)] for w in (-1.0, 1)])
    assert position_share(words) == pytest.approx(0.1)
    assert position_share(words + 1e6) == pytest.approx(0.1)
    assert np.isnan(position_share(np.ones((4, 3, 2))))


@pytest.mark.parametrize("n", [2, 5])
def test_few_words_do_not_make_a_count(n):
    """Without a count it is 0 on average, for however few words."""
    rng = np.random.default_rng(0)
    shares = [position_share(rng.normal(size=(n, 6, 3))) for _ in range(2_000)]
    assert abs(np.mean(shares)) < 4.5 * np.std(shares) / np.sqrt(len(shares))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_held_states_differ_in_these_directions_alone(seed, directions):
    rng = np.random.default_rng(seed)
    # means that lie on orthogonal axes, in which they move by less and less; the rest is noise
    axes = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    moves = np.linalg.qr(rng.normal(size=(6, 5)))[0]
    moves -= moves.mean(axis=0)
    moves = np.linalg.qr(moves)[0] * [16, 8, 4, 2, 1]
    noise = rng.normal(size=(8, 6, 9))
    hidden = moves @ axes[:5] + noise - noise.mean(axis=0) + 3
    held = Held(hidden, directions)
    states = rng.normal(size=(20, 9))
    after = held(states)
    along, centre = axes[:directions], hidden.mean(axis=(0, 1))
    np.testing.assert_allclose(after @ along.T, np.tile(along @ centre, (20, 1)), atol=1e-9)
    rest = axes[directions:]
    np.testing.assert_allclose(after @ rest.T, states @ rest.T, atol=1e-9)
    assert held(states.astype(np.float32)).dtype == np.float32


def test_the_reading_goes_on_from_what_after_returns():
    """Its count doubled after each step: every step shows in the next, and the first is not."""
    seen, read = [], []

    class Reader(Counting):
        def read_out(self, hidden):
            read.append(hidden[0, -1])
            return super().read_out(hidden)

    def doubled(states):
        seen.append(states[0, -1])
        return states * [*[1] * 60, 2]

    recurrent_top1(Reader(TASK), TASK.of_length("test", 0, 3, 15).tokens, doubled)
    counts = [Counting.unit]
    for _ in range(14):
        counts.append(2 * (counts[-1] + Counting.unit))
    assert read == counts
    assert seen == [count / 2 for count in counts[1:]]


def test_directions_are_those_of_the_trunks_states(monkeypatch):
    given = []

    class Watching(Held):
        def __init__(self, hidden, directions):
            given.append(hidden)
            super().__init__(hidden, directions)

    monkeypatch.setattr("nextlat_bench.probes.clock.Held", Watching)
    subject = known_subject("drifting", TASK)  # its dynamics' states are not the trunk's
    rows_of(subject, probe=Clock(num_words=7, num_counted=50))
    words = TASK.of_length("validation", 0, 50, 12).tokens
    np.testing.assert_array_equal(given, [subject.hidden(words)[:, 1:]])


class Watched(A5):
    asked: list

    def of_length(self, split, start, n, length):
        self.asked.append((split, start, n, length))
        return super().of_length(split, start, n, length)


def test_directions_are_found_in_validation_words():
    Watched.asked = []
    rows_of(known_subject("counting", TASK), Watched(), Clock(num_words=7, num_counted=50))
    assert [call for call in Watched.asked if call[2]] == [
        ("test", 0, 7, 36),
        ("validation", 0, 50, 12),
    ]


class Late(Counting):
    """A first state like no other, which says nothing of the count."""

    def hidden(self, tokens, reading="hidden"):
        states = super().hidden(tokens, reading)
        states[:, 0, :60] *= 9
        return states

    def predict_hidden(self, hidden, tokens):
        first = hidden[:, :60].max(axis=1, keepdims=True) > 5
        return super().predict_hidden(np.where(first, hidden / [*[9] * 60, 1], hidden), tokens)


def test_the_first_state_is_left_out():
    plain, late = (rows_of(made(TASK)) for made in (Counting, Late))
    assert late["position_share", ""] == plain["position_share", ""]
    assert late["reach", "reading=unclocked"].value == 36


def test_without_dynamics_there_is_the_share_alone():
    rows = rows_of(Frozen(TASK))
    assert rows.pop(("position_share", "")).n == PROBE.num_counted
    for row in rows.values():
        assert np.isnan([row.value, row.low, row.high]).all()
        assert row.skipped_because == "frozen predicts no next hidden state"


class Few(A5):
    def of_length(self, split, start, n, length):
        return super().of_length(split, start, min(n, 9) if split == "validation" else n, length)


@pytest.mark.parametrize(
    ("name", "task", "probe", "reason"),
    [
        ("window", TASK, PROBE, "window has no hidden states"),
        ("oracle", PathStar(variant="teacherless"), PROBE, "path_star have one length"),
        ("oracle", PathStar(), PROBE, "path_star has no answer at every position"),
        ("oracle", A5(length=4), Clock(directions=3), "words of 4 have too few positions"),
        ("oracle", Few(), PROBE, "the validation split has fewer than 10 words"),
    ],
)
def test_what_it_does_not_apply_to(name, task, probe, reason):
    with pytest.raises(NotApplicable, match=reason):
        rows_of(known_subject(name, task), task, probe)


def test_as_many_directions_as_positions_allow():
    task = A5(length=4)
    assert rows_of(known_subject("oracle", task), task, Clock(num_words=9, directions=2))


@pytest.mark.parametrize(("field", "value"), [("num_counted", 9), ("directions", 0)])
def test_bad_parameters_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Clock\.{field} = {value}: expected"):
        Clock(**{field: value})
