"""Accuracy of whole answers on subjects whose answer is known."""

import numpy as np
import pytest

from nextlat_bench.generate import generate
from nextlat_bench.known import KNOWN, known_subject
from nextlat_bench.probes import _sampling
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes.accuracy import Accuracy
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.report.statistics import mean_interval, wilson_interval
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.countdown import Countdown
from nextlat_bench.tasks.path_star import PathStar

N = 1_000
PROBE = Accuracy(num_trials=N)
STAR = PathStar(degree=3, length=4)


def read(name, task, probe=PROBE, seed=0):
    rows = probe.measure(known_subject(name, task), task, np.random.default_rng(seed))
    found = [(row.metric, row.condition, row) for row in rows]
    assert {metric for metric, _, _ in found} == {"accuracy"}
    assert len({condition for _, condition, _ in found}) == len(found)
    return {condition: row for _, condition, row in found}


def values(rows):
    return {condition: row.value for condition, row in rows.items()}


def near(row, rate, n=N):
    """Within 4.5 standard errors."""
    return abs(row.value - rate) <= 4.5 * np.sqrt(rate * (1 - rate) / n)


def test_conditions_and_extremes_of_a_path_star():
    conditions = [
        "decode=greedy",
        "decode=greedy,score=branch",
        "decode=sampled",
        "decode=sampled,score=branch",
    ]
    for name in ("oracle", "shortest_path_oracle", "history_hash", "legal_walker"):
        rows = read(name, STAR)  # one token is right at a time: none of these has a choice
        assert list(rows) == conditions
        for row in rows.values():
            assert (row.value, row.low, row.high) == (1.0, *wilson_interval(N, N))
            assert (row.n, row.n_skipped, row.skipped_because) == (N, 0, "")
    rows = read("uniform", STAR)
    assert rows["decode=greedy"].value == rows["decode=sampled"].value == 0
    assert near(rows["decode=sampled,score=branch"], 1 / len(STAR.vocab))
    assert set(values(read("always_end", STAR)).values()) == {0}


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_clever_hans_guesses_the_branch_and_nothing_else(degree):
    rows = read("clever_hans", PathStar(degree=degree, length=4))
    for row in rows.values():
        assert near(row, 1 / degree)
        assert (row.low, row.high) == wilson_interval(round(row.value * N), N)
    for decode in ("greedy", "sampled"):
        whole, branch = rows[f"decode={decode}"], rows[f"decode={decode},score=branch"]
        assert whole.value == branch.value
    assert rows["decode=greedy"].value != rows["decode=sampled"].value


def test_sampling_is_at_temperature_1():
    """Each step but the right one leaks 0.4% to each of the other answers: nodes and `end`."""
    stays = 1 - 0.004 * STAR.num_nodes
    rows = read("noisy_state", STAR)
    assert rows["decode=greedy"].value == 1
    assert near(rows["decode=sampled"], stays ** (STAR.length + 1))
    assert near(rows["decode=sampled,score=branch"], stays**2)


def test_greedy_taxis_are_right_when_they_reach(taxi, known, measured):
    trajectories = Trajectories(num_trials=300)
    for name in known:
        rows = measured(Accuracy(num_trials=300), name)
        assert list(rows) == [("accuracy", "decode=greedy"), ("accuracy", "decode=sampled")]
        reached = measured(trajectories, name)["reached", ""]
        row = rows["accuracy", "decode=greedy"]
        assert (row.value, row.low, row.high) == (reached.value, reached.low, reached.high)


@pytest.mark.parametrize(
    "task", [A5(), A5(group="S3", length=2), PathStar(variant="teacherless")], ids=str
)
def test_answers_read_in_parallel(task):
    """Uniform: of equals the lowest id, the identity or node 0, is the likeliest."""
    targets = task.sample("test", 0, N).targets
    lowest = np.mean([(row[row >= 0] == 0).all() for row in targets])
    for name, value in {"oracle": 1, "uniform": lowest}.items():
        assert read(name, task, Accuracy(num_trials=N, sampled=False)) == read(name, task)
        rows = read(name, task)
        expected = {"decode=parallel": value}
        if isinstance(task, PathStar):
            second = np.mean([row[row >= 0][1] == 0 for row in targets])
            expected["decode=parallel,score=branch"] = 1 if name == "oracle" else second
        assert values(rows) == pytest.approx(expected)
        assert {(row.n, row.n_skipped) for row in rows.values()} == {(N, 0)}


def test_tags_of_training_length_do_not_show_what_is_beyond():
    for name, value in {"window": 1, "drifting": 1, "counting": 1, "forgetful": 0}.items():
        assert values(read(name, A5())) == {"decode=parallel": value}


def test_countdown_by_score_and_kind():
    task = Countdown(num_inputs=3, max_input=20, max_target=30, num_heldout_targets=4, largest=400)
    for name, value in {"oracle": 1, "legal_walker": 1, "uniform": 0, "always_end": 0}.items():
        rows = read(name, task, Accuracy(num_trials=101))
        assert values(rows) == {
            f"decode={decode}{score},kind={kind}": value
            for decode in ("greedy", "sampled")
            for score in ("", ",score=released", ",score=equations")
            for kind in ("heldout", "seen")
        }
        for condition, row in rows.items():
            assert row.n == 51 - condition.endswith("seen")  # they alternate, held-out ones first


class Divided(PathStar):
    """Goals with an even number apart from the others; and how much of a path is right."""

    def kinds(self, prompts):
        return np.where(prompts[:, self.prompt_length - 2] % 2 == 0, "even", "odd")

    def scores(self, prompts, completions):
        right = (completions == self.solve(prompts)).mean(axis=1)
        return {**super().scores(prompts, completions), "tokens": right}


def test_trials_of_one_target_stand_or_fall_together():
    """A subject that knows half of the held-out targets: nine clusters, not 500 trials."""
    task = Countdown(num_inputs=3, max_input=30, max_target=60, largest=999)
    prompts = task.prompts("test", 0, 1000)
    of, kinds = task.clusters(prompts), task.kinds(prompts)
    held = kinds == "heldout"
    assert sorted(set(of[held].tolist())) == task.targets[1].tolist()
    hits = np.isin(of[held], task.targets[1][::2])
    alone = share_measurement("accuracy", hits)
    together = share_measurement("accuracy", hits, unit=of[held])
    assert (together.value, together.n) == (alone.value, alone.n)
    assert together.high - together.low > 5 * (alone.high - alone.low)
    every = share_measurement("accuracy", np.ones(9, dtype=bool), unit=np.arange(9) // 3)
    assert (every.low, every.high) == wilson_interval(9, 9)  # where all agree, as of trials


def test_kinds_and_scores_that_are_shares():
    task = Divided(degree=3, length=4)
    subject, rows = known_subject("forgetful", task), read("forgetful", task)
    assert list(rows) == [
        f"decode={decode}{score},kind={kind}"
        for decode in ("greedy", "sampled")
        for score in ("", ",score=branch", ",score=tokens")
        for kind in ("even", "odd")
    ]
    prompts, rng = task.prompts("test", 0, N), np.random.default_rng(0)
    end, pad = task.vocab.end, task.vocab.pad
    kinds = ["odd" if prompt[-2] % 2 else "even" for prompt in prompts]
    for decode in ("greedy", "sampled"):
        chance = rng if decode == "sampled" else None
        completions = generate(subject, prompts, task.max_new_tokens, end=end, pad=pad, rng=chance)
        for kind in ("even", "odd"):
            mine = [i for i, own in enumerate(kinds) if own == kind]
            paths = task.solve(prompts[mine])
            tokens = np.array(
                [np.mean(completions[i] == p) for i, p in zip(mine, paths, strict=True)]
            )
            branch = [completions[i, 1] == p[1] for i, p in zip(mine, paths, strict=True)]
            row = rows[f"decode={decode},score=tokens,kind={kind}"]
            assert 0 < row.value < 1
            assert row.n == len(mine)
            assert (row.value, row.low, row.high) == pytest.approx(
                (tokens.mean(), *mean_interval(tokens))
            )
            row = rows[f"decode={decode},score=branch,kind={kind}"]
            expected = np.mean(branch), *wilson_interval(sum(branch), len(mine))
            assert (row.value, row.low, row.high) == pytest.approx(expected)
    assert sum(row.n for condition, row in rows.items() if "greedy,kind" in condition) == N


def test_a_share_is_cut_off_at_1():
    task = Divided(degree=3, length=4)
    rows = read("noisy_state", task, Accuracy(num_trials=10))
    for row in rows.values():
        assert 0 <= row.low <= row.value <= row.high <= 1
    row = read("oracle", task)["decode=greedy,score=tokens,kind=odd"]
    assert (row.low, row.high) == wilson_interval(row.n, row.n)


def test_sampling_is_optional_and_reproducible():
    full = read("clever_hans", STAR)
    assert read("clever_hans", STAR) == full
    other = read("clever_hans", STAR, seed=1)
    greedy = read("clever_hans", STAR, Accuracy(num_trials=N, sampled=False))
    assert list(greedy) == ["decode=greedy", "decode=greedy,score=branch"]
    assert greedy.items() <= full.items()
    assert greedy.items() <= other.items()
    assert other["decode=sampled"] != full["decode=sampled"]


def test_chunks_of_parallel_answers_do_not_matter(monkeypatch):
    task = A5(group="S3", length=2)
    expected = read("uniform", task)
    monkeypatch.setattr(_sampling, "MAX_FLOATS", 100)
    assert read("uniform", task) == expected


def test_missing_prompts_are_counted(taxi, known):
    available = len(taxi.prompts("test", 0, 10**6))
    probe = Accuracy(num_trials=available + 5)
    for row in probe.measure(known["always_end"], taxi, np.random.default_rng(0)):
        assert (row.n, row.n_skipped) == (available, 5)
        assert row.skipped_because == "5 beyond the split"


def test_generation_needs_an_end():
    class Endless(A5):
        parallel = False

    reason = "the sequences of the task a5 have no end token"
    with pytest.raises(NotApplicable, match=reason):
        list(PROBE.measure(known_subject("oracle", A5()), Endless(), np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("field", "value"), [("num_trials", 0), ("num_trials", 2.0), ("sampled", 1)]
)
def test_bad_parameters_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Accuracy\.{field} = {value}: expected"):
        Accuracy(**{field: value})


def test_catches_and_misses(taxi):
    """Caught: on some task, some score is clearly below the oracle's. Missed: on none."""
    caught, seen = set(), set()
    for task in (taxi, STAR, A5()):
        names = {*KNOWN, "window", "drifting", "counting"}
        oracle = read("oracle", task)
        for name in names:
            try:
                rows = read(name, task)
            except ValueError:  # not known of this task
                continue
            seen.add(name)
            caught |= {name for key, row in rows.items() if row.high < oracle[key].low}
    assert caught == set(PROBE.catches)
    assert set(PROBE.misses) <= seen - caught
    # with a purpose, they do better than the oracle where that wanders
    purposeful = {"shortest_path_oracle", "ideal_learner"}
    assert seen - caught - set(PROBE.misses) == {"oracle", *purposeful}


def test_trials_of_a_lone_cluster_have_no_interval() -> None:
    """They are not independent, and what others would give is not known."""
    row = share_measurement("accuracy", np.array([True, False, True]), unit=np.zeros(3, dtype=int))
    assert row.value == pytest.approx(2 / 3)
    assert np.isnan([row.low, row.high]).all()


def test_an_interval_over_clusters_is_cut_off_at_0_and_1() -> None:
    """Two clusters, right in all and in half: 0.75 +- 3.2."""
    hits = np.array([True, True, True, False])
    row = share_measurement("accuracy", hits, unit=np.array([0, 0, 1, 1]))
    assert (row.low, row.value, row.high) == (0.0, 0.75, 1.0)


class Doubled(PathStar):
    """Each prompt stands twice."""

    def prompts(self, split, start, n):
        return np.repeat(super().prompts(split, start, n // 2), 2, axis=0)

    def clusters(self, prompts):
        return np.arange(len(prompts)) // 2


def test_prompts_of_one_cluster_are_one_trial() -> None:
    task = Doubled(degree=2, length=4)
    probe = Accuracy(num_trials=400, sampled=False)
    rows = probe.measure(known_subject("clever_hans", task), task, np.random.default_rng(0))
    for row in rows:  # whole paths, and branches
        low, high = wilson_interval(round(400 * row.value), 400)
        assert row.high - row.low == pytest.approx(2**0.5 * (high - low), rel=0.02)
