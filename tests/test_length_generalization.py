"""Length generalization on subjects whose curve is known in closed form."""

import numpy as np
import pytest
from coded import Frozen
from hypothesis import given
from hypothesis import strategies as st

from nextlat_bench.known import known_subject
from nextlat_bench.probes import _sampling, length_generalization
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.length_generalization import LengthGeneralization, reach
from nextlat_bench.report.statistics import wilson_interval
from nextlat_bench.taggers import Oracle
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.path_star import PathStar

TASK = A5()
LONG = A5(test_length=130)
WORDS = 2_000
PROBE = LengthGeneralization(num_words=WORDS)


def read(subject, task=TASK, probe=PROBE):
    """Measurements by metric, reading and length."""
    rows = list(probe.measure(subject, task, np.random.default_rng(0)))
    found = {}
    for row in rows:
        reading, _, length = row.condition.partition(",length=")
        key = row.metric, reading.removeprefix("reading=")
        found[(*key, int(length)) if length else key] = row
    assert len(found) == len(rows)
    return found


def near(row, rate):
    """Within 4.5 standard errors (or one word): for a few hundred rates, all of them at once."""
    return abs(row.value - rate) <= 4.5 * np.sqrt(rate * (1 - rate) / WORDS) + 1 / WORDS


def test_conditions_are_these_and_no_others():
    lengths = [*range(1, 37), 48, 60, 120]  # 240 is beyond the task
    expected = [
        (metric, f"reading={reading}{length}")
        for reading in ("trunk", "recurrent")
        for metric, length in [
            *((m, f",length={at}") for at in lengths for m in ("accuracy", "whole")),
            ("reach", ""),
        ]
    ]
    for name in ("oracle", "window"):
        rows = LengthGeneralization(num_words=5).measure(
            known_subject(name, LONG), LONG, np.random.default_rng(0)
        )
        assert [(row.metric, row.condition) for row in rows] == expected


@pytest.mark.parametrize(("task", "longest"), [(TASK, 36), (LONG, 120), (A5(test_length=20), 20)])
def test_the_oracle_reaches_whatever_is_read(task, longest):
    for key, row in read(known_subject("oracle", task), task).items():
        assert (row.n, row.n_skipped, row.skipped_because) == (WORDS, 0, "")
        if key[0] == "reach":
            assert (row.value, row.low, row.high) == (longest, longest, longest)
        else:
            assert (row.value, row.low, row.high) == (1.0, *wilson_interval(WORDS, WORDS))


@pytest.mark.parametrize(("name", "width"), [("window", 12), ("forgetful", 2)])
def test_a_window_is_exact_up_to_its_width_and_at_chance_beyond(name, width):
    rows = read(known_subject(name, TASK))
    for length in range(1, 37):
        beyond = max(0, length - width)
        accuracy, whole = rows["accuracy", "trunk", length], rows["whole", "trunk", length]
        assert near(accuracy, 1 / 60 if beyond else 1)
        assert near(whole, 60.0**-beyond)  # each further prefix must be the identity
        assert wilson_interval(round(accuracy.value * WORDS), WORDS) == (
            accuracy.low,
            accuracy.high,
        )
    row = rows["reach", "trunk"]
    assert (row.value, row.low, row.high) == (width, width, width)


def test_uniform_is_at_chance():
    """Of equals the lowest id is the likeliest: the identity, right once in sixty."""
    rows = read(known_subject("uniform", TASK))
    for length in range(1, 37):
        assert near(rows["accuracy", "trunk", length], 1 / 60)
    assert rows["reach", "trunk"].value == 0


def test_drifting_dynamics_follow_their_markov_chain():
    """The error e with answer = guess * e goes to x^-1 e x, or to e x where x is not heard."""
    subject, table = known_subject("drifting", TASK), TASK.table
    inverse = (table == 0).argmax(axis=1)
    chain = np.zeros((60, 60))
    for e in range(60):
        for x in range(60):
            after = table[e, x] if x == 59 else table[table[inverse[x], e], x]
            chain[e, after] += 1 / 60
    error, rows = np.eye(60)[0], read(subject)
    for length in range(1, 37):
        for metric in ("accuracy", "whole"):
            assert rows[metric, "trunk", length].value == 1
        assert near(rows["accuracy", "recurrent", length], error[0])
        assert near(rows["whole", "recurrent", length], (59 / 60) ** (length - 1))
        error = error @ chain
    assert 0.3 < rows["accuracy", "recurrent", 36].value < 0.65
    assert rows["reach", "trunk"].value == 36

    row = read(subject, probe=LengthGeneralization(num_words=WORDS, threshold=0.885))
    assert row["reach", "recurrent"].low <= 8 <= row["reach", "recurrent"].high  # (59/60)^7 = 0.889


def test_bounds_of_reach_are_those_of_the_rates():
    rows = read(known_subject("drifting", TASK))
    for bound in ("value", "low", "high"):
        rates = [getattr(rows["accuracy", "recurrent", at], bound) for at in range(1, 37)]
        below = next(i for i, rate in enumerate(rates) if rate < PROBE.threshold)
        assert getattr(rows["reach", "recurrent"], bound) == below
    assert rows["reach", "recurrent"].low < rows["reach", "recurrent"].high


class Slip(Oracle):
    """Wrong at the 50th position alone."""

    def tags(self, tokens):
        tags = self.answers(tokens).copy()
        tags[:, 49:50] = (tags[:, 49:50] + 1) % self.vocab_size
        return tags


def test_reach_asks_every_position_that_is_read():
    rows = read(Slip(LONG), LONG)
    assert rows["reach", "trunk"].value == 49
    assert rows["accuracy", "trunk", 60].value == 1
    assert rows["whole", "trunk", 48].value == 1
    assert rows["whole", "trunk", 60].value == 0


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.1, 1))
def test_reach_by_its_definition(rates, threshold):
    lengths = [n for n in range(len(rates) + 1) if all(r >= threshold for r in rates[:n])]
    assert reach(np.array(rates), threshold) == max(lengths)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (known_subject("window", TASK), "window has no hidden states"),
        (Frozen(TASK), "frozen predicts no next hidden state"),
    ],
)
def test_a_missing_reading_has_no_value(subject, reason):
    rows = read(subject)
    for key, row in rows.items():
        if key[1] == "trunk":
            assert (row.n, row.skipped_because) == (WORDS, "")
            continue
        assert np.isnan([row.value, row.low, row.high]).all()
        assert (row.n, row.n_skipped, row.skipped_because) == (0, 0, reason)
    assert {key for key in rows if key[1] == "recurrent"} == {
        (key[0], "recurrent", *key[2:]) for key in rows if key[1] == "trunk"
    }


def test_chunks_and_generators_do_not_matter(monkeypatch):
    subject = known_subject("drifting", TASK)
    expected = read(subject)
    monkeypatch.setattr(_sampling, "MAX_ROWS", 300)
    monkeypatch.setattr(length_generalization, "MAX_ROWS", 7)
    assert read(subject) == expected
    rows = PROBE.measure(subject, TASK, np.random.default_rng(99))
    assert list(rows) == list(expected.values())


def test_words_that_a_split_lacks_are_counted():
    class Few(A5):
        def of_length(self, split, start, n, length):
            assert split == "test"
            return super().of_length(split, start, min(n, 30), length)

    task = Few()
    for row in read(known_subject("oracle", task), task).values():
        assert (row.n, row.n_skipped) == (30, WORDS - 30)
        assert row.skipped_because == f"{WORDS - 30} beyond the split"


def test_what_it_does_not_apply_to(taxi, known):
    teacherless = PathStar(variant="teacherless")
    for subject, task, reason in (
        (known["oracle"], taxi, "the task taxi has no answer at every position"),
        (known_subject("oracle", teacherless), teacherless, "the task path_star have one length"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            list(PROBE.measure(subject, task, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_words", 0),
        ("num_words", 1.5),
        ("multiple", 0),
        ("far", (48, 0)),
        ("far", (48.5,)),
        ("threshold", 0.0),
        ("threshold", 1.1),
    ],
)
def test_bad_parameters_are_named(field, value):
    with pytest.raises(ValueError, match=rf"LengthGeneralization\.{field} = .*: expected"):
        LengthGeneralization(**{field: value})


def test_far_lengths_come_back_from_json_as_they_were():
    assert LengthGeneralization(far=[48, 60]) == LengthGeneralization(far=(48, 60))
