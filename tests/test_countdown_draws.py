"""Which Countdown problems are drawn: splits, held-out targets, uniform draws, random access."""

from collections import Counter

import numpy as np
import pytest
from countdown_rules import SMALL, right_answers, split_up
from scipy.stats import chisquare

from nextlat_bench.tasks import _draws, countdown
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks._countdown_solver import solvable
from nextlat_bench.tasks._draws import BLOCK
from nextlat_bench.tasks.countdown import Countdown

TASKS = {2: Countdown(num_inputs=2, heldout=0.2, num_pauses=0), 3: Countdown(**SMALL)}


@pytest.fixture(scope="module")
def paper():
    return Countdown()


def contents(task, split, n):
    """Sorted inputs and target of every problem."""
    tokens = task.drawn(split, 0, n).tolist()
    k = task.num_inputs
    return {(*sorted(row[:k]), row[k]) for row in tokens}


@pytest.mark.parametrize("k", [2, 3])
def test_splits_share_no_problem(k):
    task = TASKS[k]
    seen, held = map(set, (part.tolist() for part in task.targets))
    assert len(held) == task.num_heldout_targets
    assert seen | held == set(range(task.min_target, task.max_target + 1))
    assert not seen & held
    problems = {split: contents(task, split, 10 * BLOCK) for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not problems[one] & problems[other]
    inputs = {split: {row[:-1] for row in rows} for split, rows in problems.items()}
    assert inputs["train"] & inputs["validation"], "the target decides, too"
    targets = {split: {row[-1] for row in rows} for split, rows in problems.items()}
    assert targets["train"] == targets["validation"] == seen
    assert targets["test"] == seen | held
    known = sum(map(len, problems.values()))
    shares = [len([row for row in problems[s] if row[-1] in seen]) / known for s in SPLITS]
    assert 0.05 < shares[1] < 0.3
    assert 0.05 < shares[2] < 0.3


def test_test_problems_alternate(paper):
    prompts = paper.prompts("test", 0, 2000)
    kinds = paper.kinds(prompts)
    assert (kinds[::2] == "heldout").all()
    assert (kinds[1::2] == "seen").all()
    assert (paper.kinds(paper.prompts("validation", 0, 500)) == "seen").all()
    assert np.isin(prompts[::2, 4], paper.targets[1]).all()
    all_seen = Countdown(num_heldout_targets=0)
    assert (all_seen.kinds(all_seen.prompts("test", 0, 100)) == "seen").all()
    assert paper.targets[1].tolist() != Countdown(seed=1).targets[1].tolist()


def test_targets_are_uniform(paper):
    seen, held = paper.targets
    for tokens, among in (
        (paper.drawn("train", 0, 20_000), seen),
        (paper.drawn("validation", 0, 4000), seen),
        (paper.drawn("test", 0, 4000)[::2], held),
        (paper.drawn("test", 0, 4000)[1::2], seen),
    ):
        counts = [int((tokens[:, 4] == target).sum()) for target in among]
        assert sum(counts) == len(tokens)
        assert chisquare(counts).pvalue > 1e-3


def test_inputs_are_uniform_over_those_that_make_the_target():
    """Of two inputs all pairs are known: given the target, each of the split's is as likely."""
    task = Countdown(num_inputs=2, max_input=30, min_target=6, max_target=12,
                     num_heldout_targets=1, heldout=0.3)  # fmt: skip
    for split in ("train", "test"):
        tokens = task.drawn(split, 0, 20_000)
        tokens = tokens[task.kinds(split_up(task, tokens)[0]) == "seen"]
        for target in task.targets[0].tolist():
            counts = Counter(map(tuple, tokens[tokens[:, 2] == target, :2].tolist()))
            assert all((b, a) in counts for a, b in counts)
            assert chisquare(list(counts.values())).pvalue > 1e-3
            solvable = {
                (a, b)
                for a in range(1, 31)
                for b in range(1, 31)
                if right_answers(tuple(sorted((a, b))), target, 9999)
            }
            assert set(counts) < solvable
    held = task.targets[1].item()
    tokens = task.drawn("test", 0, 10_000)[::2]
    counts = Counter(map(tuple, tokens[:, :2].tolist()))
    expected = {
        (a, b)
        for a in range(1, 31)
        for b in range(1, 31)
        if right_answers(tuple(sorted((a, b))), held, 9999)
    }
    assert set(counts) == expected
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_the_share_of_solvable_draws(paper):
    """One draw in about seven has a solution, and training keeps 96% of these."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(1, 100, size=(20_000, 4)), rng.integers(10, 101, size=20_000)
    share = solvable(inputs, targets).mean()
    assert abs(share - 0.135) < 0.006
    rates = [paper.draw("train", block)[1] for block in range(4)]
    assert 0.9 * share < 1 - np.mean(rates) < share  # hard targets are drawn for more often
    assert paper.rejection_rate("validation") > 0.99


def test_random_access():
    task = Countdown(**SMALL)
    for split in SPLITS:
        whole = task.sample(split, 0, 2 * BLOCK + 50)
        _draws._block.cache_clear()
        for start, n in (
            (0, 0),
            (0, 1),
            (BLOCK - 1, 2),
            (BLOCK, BLOCK),
            (37, 1500),
            (2 * BLOCK, 9),
        ):
            part = task.sample(split, start, n)
            np.testing.assert_array_equal(part.tokens, whole.tokens[start : start + n])
            np.testing.assert_array_equal(part.targets, whole.targets[start : start + n])
    assert not np.array_equal(whole.tokens[:BLOCK], whole.tokens[BLOCK : 2 * BLOCK])
    assert len(task.sample("train", 10**12, 3)) == 3


def test_a_fixed_training_set():
    fixed, free = Countdown(**SMALL, num_train=1500), Countdown(**SMALL)
    first, second = fixed.drawn("train", 0, 1500), fixed.drawn("train", 1500, 1500)
    np.testing.assert_array_equal(first, free.drawn("train", 0, 1500))
    assert not np.array_equal(first, second)
    order = np.lexsort(first.T), np.lexsort(second.T)
    np.testing.assert_array_equal(first[order[0]], second[order[1]])
    np.testing.assert_array_equal(fixed.drawn("test", 0, 99), free.drawn("test", 0, 99))


def test_problems_that_do_not_exist():
    with pytest.raises(ValueError, match=r"inputs from 1 to 2 make \d+"):
        Countdown(num_inputs=2, max_input=2).sample("train", 0, 1)
    for seed in range(4):  # 2 * 3 = 6
        with pytest.raises(ValueError, match="inputs from 1 to 3 make 7: too few problems"):
            Countdown(num_inputs=2, max_input=3, min_target=6, max_target=7, num_heldout_targets=0,
                      seed=seed).sample("train", 0, 1)  # fmt: skip
    tiny = Countdown(num_inputs=2, max_input=3, min_target=5, max_target=6, heldout=0.01,
                     num_heldout_targets=0)  # fmt: skip
    assert contents(tiny, "train", 50) == {(2, 3, 5), (2, 3, 6), (3, 3, 6)}
    with pytest.raises(ValueError, match=r"no test inputs.*heldout = 0.01 is too small"):
        tiny.sample("test", 0, 1)


def test_rare_problems_are_found(monkeypatch):
    """One pair in 1,500: refused is what none of very many makes."""
    monkeypatch.setattr(countdown, "BLOCK", 16)
    task = Countdown(num_inputs=2, num_heldout_targets=0, max_input=3000, min_target=97,
                     max_target=97)  # fmt: skip
    tokens, rejected = task.draw("train", 0)
    assert task.check(*split_up(task, tokens)).all()
    assert rejected > 0.999
