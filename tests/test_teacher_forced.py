"""Teacher-forced accuracy on subjects whose answer is known, counted one position at a time."""

import numpy as np
import pytest

from nextlat_bench.known import KNOWN, known_subject
from nextlat_bench.probes import _sampling
from nextlat_bench.probes._intervals import share
from nextlat_bench.probes.teacher_forced import TeacherForced
from nextlat_bench.report.statistics import wilson_interval
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.path_star import PathStar

N = 300
PROBE = TeacherForced(num_sequences=N)
STAR = PathStar(degree=3, length=4)


def read(subject, task, probe=PROBE):
    if isinstance(subject, str):
        subject = known_subject(subject, task)
    rows = list(probe.measure(subject, task, np.random.default_rng(0)))
    assert {row.metric for row in rows} == {"accuracy"}
    found = {row.condition: row for row in rows}
    assert len(found) == len(rows)
    return found


def near(row, rate, n=N):
    """Within 4.5 standard errors."""
    return abs(row.value - rate) <= 4.5 * np.sqrt(rate * (1 - rate) / n)


def test_the_oracle_is_right_where_one_token_is():
    teacherless = PathStar(degree=3, length=4, variant="teacherless")
    for task, positions in ((STAR, 5), (teacherless, 5), (A5(), 12)):
        rows = read("oracle", task)
        assert list(rows) == ["", *(f"position={k}" for k in range(1, positions + 1))]
        for row in rows.values():
            assert (row.value, row.low, row.high) == (1.0, *wilson_interval(N, N))
            assert (row.n, row.n_skipped, row.skipped_because) == (N, 0, "")


@pytest.mark.parametrize("degree", [2, 4])
def test_clever_hans_misses_the_branch_alone(degree):
    rows = read("clever_hans", PathStar(degree=degree, length=4, num_nodes=30))
    branch = rows.pop("position=2")
    assert near(branch, 1 / degree)
    assert (branch.low, branch.high) == wilson_interval(round(branch.value * N), N)
    assert rows.pop("").value == pytest.approx((4 + branch.value) / 5)
    assert {row.value for row in rows.values()} == {1}


def test_a_window_is_right_up_to_its_width():
    rows = read("forgetful", A5())
    for k in range(1, 13):
        assert near(rows[f"position={k}"], 1 if k <= 2 else 1 / 60)
    assert {row.value for row in read("window", A5()).values()} == {1}


def test_uniform_is_right_where_the_target_is_the_lowest_id():
    for task, rate in ((STAR, 1 / STAR.num_nodes), (A5(), 1 / 60)):
        rows = read("uniform", task)
        targets = [row[row >= 0] for row in task.sample("test", 0, N).targets]
        for k in range(1, len(targets[0]) + 1):
            row = rows[f"position={k}"]
            assert row.value == pytest.approx(np.mean([t[k - 1] == 0 for t in targets]))
            assert near(row, 0 if task is STAR and k == STAR.length + 1 else rate)


@pytest.mark.parametrize("name", ["oracle", "forgetful", "legal_walker", "always_end"])
def test_walks_of_any_length_by_counting(taxi, known, name):
    """Every answer of a walk is its next token; shorter walks are skipped and counted."""
    tokens, subject = taxi.sample("test", 0, N).tokens, known[name]
    hits, counts = np.zeros(N), np.zeros(N)
    at = {}
    for i, walk in enumerate(tokens):
        length = len(taxi.vocab.decode(walk))
        best = subject.log_probs(walk[None])[0].argmax(axis=1)
        for k in range(1, length - 1):  # two tokens are the prompt
            right = bool(best[k] == walk[k + 1])
            at.setdefault(k, []).append(right)
            hits[i], counts[i] = hits[i] + right, counts[i] + 1
    rows = read(subject, taxi, TeacherForced(num_sequences=N, max_positions=99))
    overall = rows.pop("")
    assert (overall.value, overall.low, overall.high) == pytest.approx(share(hits, counts))
    assert (overall.n, overall.n_skipped) == (N, 0)
    assert list(rows) == [f"position={k}" for k in range(1, max(at) + 1)]
    assert len(at[1]) > len(at[max(at)])
    for k, right in at.items():
        row = rows[f"position={k}"]
        expected = np.mean(right), *wilson_interval(sum(right), len(right))
        assert (row.value, row.low, row.high) == pytest.approx(expected)
        assert (row.n, row.n_skipped) == (len(right), N - len(right))
        missing = N - len(right)
        assert row.skipped_because == (f"{missing} shorter than that" if missing else "")


@pytest.mark.parametrize("most", [0, 3, 99])
def test_positions_are_limited(most):
    rows = read("oracle", STAR, TeacherForced(num_sequences=20, max_positions=most))
    assert list(rows) == ["", *(f"position={k}" for k in range(1, min(most, 5) + 1))]


def test_few_rows_are_read_at_once(monkeypatch):
    subject = known_subject("forgetful", STAR)
    expected, sizes, log_probs = read(subject, STAR), [], subject.log_probs
    monkeypatch.setattr(_sampling, "MAX_FLOATS", 10_000)
    monkeypatch.setattr(
        subject, "log_probs", lambda tokens: sizes.append(tokens.size) or log_probs(tokens)
    )
    assert read(subject, STAR) == expected
    assert len(sizes) > 10
    assert max(sizes) * subject.vocab_size <= 10_000


def test_sequences_that_a_split_lacks_are_counted():
    class Few(PathStar):
        def sample(self, split, start, n):
            return super().sample(split, start, min(n, 30))

    for row in read("oracle", Few()).values():
        assert (row.n, row.n_skipped) == (30, N - 30)
        assert row.skipped_because == f"{N - 30} beyond the split"


@pytest.mark.parametrize(
    ("field", "value"), [("num_sequences", 0), ("num_sequences", 1.5), ("max_positions", -1)]
)
def test_bad_parameters_are_named(field, value):
    with pytest.raises(ValueError, match=rf"TeacherForced\.{field} = {value}: expected"):
        TeacherForced(**{field: value})


def test_catches_and_misses(taxi):
    """Caught: on some task, some score is clearly below the oracle's. Missed: on none."""
    caught, seen = set(), set()
    for task in (taxi, STAR, A5()):
        oracle = read("oracle", task)
        for name in {*KNOWN, "window", "drifting", "counting"}:
            try:
                rows = read(name, task)
            except ValueError:  # not known of this task
                continue
            seen.add(name)
            caught |= {name for key, row in rows.items() if row.high < oracle[key].low}
    assert caught == set(PROBE.catches)
    assert seen - caught == {"oracle", *PROBE.misses}
