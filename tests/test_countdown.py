"""Countdown's promises: the checker, the draws, splits, digests, JSON, validation, lightness."""

import doctest
import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from countdown_rules import (
    SMALL,
    problem_of,
    right_answers,
    slow_check,
    slow_scores,
    split_up,
    words_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench.tasks import countdown
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks.countdown import Countdown


@pytest.fixture(scope="module")
def paper():
    return Countdown()


def solution(task, text):
    """The tokens of `83-14=69, 91-88=3, 69/3=23` and `end`."""
    for sign in "+-*/=,":
        text = text.replace(sign, f" {sign} ")
    return task.vocab.encode([*text.split(), "end"])


def problem(task, numbers, target):
    return task.notation.write_prompts(np.array([numbers]), np.array([target]))


def test_a_sequence_of_the_paper(paper):
    answer = solution(paper, "83-14=69, 91-88=3, 69/3=23")
    prompt = problem(paper, [14, 83, 88, 91], 23)
    assert len(answer) == paper.max_new_tokens == 18
    tokens = np.append(prompt[0], answer)
    assert len(tokens) == paper.max_length == 31
    assert paper.text(tokens) == "14,83,88,91 -> 23: 83-14=69, 91-88=3, 69/3=23"
    assert paper.text(prompt[0]) == "14,83,88,91 -> 23"
    assert words_of(paper, prompt[0]) == ["14", "83", "88", "91", "23", *["pause"] * 8]
    assert paper.check(prompt, answer[None]).tolist() == [True]
    words = (*(str(i) for i in range(10_000)), *"+-*/=,", "pause", "end", "pad")
    assert paper.vocab.tokens == words
    assert [words[i] for i in (paper.vocab.end, paper.vocab.pad)] == ["end", "pad"]


def test_a_batch(paper):
    batch = paper.sample("train", 3, 50)
    assert batch.tokens.shape == (50, 31)
    assert batch.tokens.dtype == np.int32
    expected = np.full((50, 31), -1)
    expected[:, 12:30] = batch.tokens[:, 13:]
    np.testing.assert_array_equal(batch.targets, expected)
    np.testing.assert_array_equal(batch.position, np.tile(np.arange(31), (50, 1)))
    assert (batch.document == 0).all()
    np.testing.assert_array_equal(paper.prompts("train", 3, 50), batch.tokens[:, :13])
    prompts, completions = split_up(paper, batch.tokens)
    for prompt, completion in zip(prompts, completions, strict=True):
        assert slow_check(*problem_of(paper, prompt), words_of(paper, completion))


CASES = {
    "2+3=5, 5+5=10, 10+5=15": (False, True, 2 / 3),
    "3*5=15, 15+4=19, 19-4=15": (False, True, 2 / 3),
    "4-3=1, 5+2=7, 7*1=7": (False, False, 1),
    "15+4=19, 4-3=1, 19-4=15": (False, True, 1 / 3),
    "2+3=6, 2+3=5, 5+5=10": (False, False, 2 / 3),
    "2*5=10, 4-3=1, 10*1=10": (False, False, 1),
    "5+4=9, 9+3=12, 12+2=14": (False, False, 1),
    "5*2=10, 10+4=14, 3-14=15": (False, False, 2 / 3),
    "4-2=2, 2+3=5, 5+5=10": (False, False, 1),
    "4/2=2, 2+3=5, 5*3=15": (False, True, 2 / 3),
    "2+4=6, 6/3=2, 2*5=10": (False, False, 1),
    "4+2=6, 5*3=15, 15*6=90": (False, False, 1),
    "5-4=1, 3+2=5, 5*1=5": (False, False, 1),
    "2*3=6, 5+4=9, 6+9=15": (True, True, 1),
    "3*2=6, 4+5=9, 9+6=15": (True, True, 1),
}


@pytest.mark.parametrize("text", CASES)
def test_worked_judgements(paper, text):
    prompt, completion = problem(paper, [2, 3, 4, 5], 15), solution(paper, text)[None]
    scores = paper.scores(prompt, completion)
    assert list(scores) == ["answer", "released", "equations"]
    assert [x.item() for x in scores.values()] == pytest.approx([float(x) for x in CASES[text]])
    assert paper.check(prompt, completion).tolist() == [CASES[text][0]]


def test_what_comes_after_and_what_is_cut_off(paper):
    prompt = problem(paper, [2, 3, 4, 5], 15)
    answer = solution(paper, "2*3=6, 5+4=9, 6+9=15")
    pad, end = paper.vocab.pad, paper.vocab.end
    for more in ([], [pad], [pad] * 5):
        assert paper.check(prompt, np.append(answer, more).astype(int)[None])[0]
    for more in ([end], [pad, end], [0], [15, pad]):
        assert not paper.check(prompt, np.append(answer, more).astype(int)[None])[0]
    for length in range(len(answer)):
        assert not paper.check(prompt, answer[None, :length])[0]
        padded = np.append(answer[:length], [pad] * 9)
        assert not paper.check(prompt, padded[None])[0]
    assert paper.check(np.empty((0, 13), int), np.empty((0, 18), int)).shape == (0,)


def test_the_released_reading_ends_where_the_answer_does(paper):
    """It is about which numbers are there, and about nothing else."""
    prompt = problem(paper, [2, 3, 4, 5], 15)
    answer = solution(paper, "2+3=5, 5+5=10, 10+5=15")  # uses 5 three times
    pad, end, comma = paper.vocab.pad, paper.vocab.end, paper.notation.comma
    unended, uncut = answer.copy(), answer.copy()
    unended[-1], uncut[5] = comma, end
    for tokens, right in (
        (answer, 1), ([*answer, pad, pad], 1), ([*answer, end], 0), ([*answer, pad, 15], 0),
        (answer[:-1], 0), (unended, 0), (uncut, 0),
    ):  # fmt: skip
        scores = paper.scores(prompt, np.array(tokens)[None])
        assert (scores["released"].item(), scores["answer"].item()) == (right, 0)


def test_an_equation_without_a_result_takes_no_number_away(paper):
    """3 - 5 has no result, and "," is none: 3 and 5 are still to be used."""
    words = ["3", "-", "5", "=", ",", ",", *",,,=,,", "15", "*", "1", "=", "15", "end"]
    prompt, completion = problem(paper, [3, 5, 15, 1], 15), paper.vocab.encode(words)[None]
    assert not slow_check([3, 5, 15, 1], 15, words)
    scores = {name: x.item() for name, x in paper.scores(prompt, completion).items()}
    assert scores == pytest.approx({"answer": 0, "released": 0, "equations": 1 / 3})


@given(st.integers(2, 5), st.integers(0, 10**6), st.data())
@settings(max_examples=60)
def test_one_wrong_token(k, seed, data):
    """A solved problem passes; with any one token changed it fails, unless it is right again."""
    task = TASKS[k]
    tokens = task.sample(data.draw(st.sampled_from(SPLITS)), seed % 1024, 40).tokens
    prompts, right = split_up(task, tokens)
    assert task.check(prompts, right).all()
    rng = np.random.default_rng(seed)
    near = np.array([*range(100), *range(task.largest - 1, len(task.vocab) + 1), -1])
    wrong = right.copy()
    place = rng.integers(right.shape[1], size=40)
    wrong[np.arange(40), place] = rng.choice(near, size=40)
    expected = [
        slow_check(*problem_of(task, prompt), words_of(task, completion))
        for prompt, completion in zip(prompts, wrong, strict=True)
    ]
    np.testing.assert_array_equal(task.check(prompts, wrong), expected)


TASKS = {
    2: Countdown(num_inputs=2, heldout=0.2, num_pauses=0),
    3: Countdown(**SMALL),
    4: Countdown(heldout=0.2),
    5: Countdown(num_inputs=5, max_input=9, heldout=0.3, num_pauses=1, num_heldout_targets=0),
}  # fmt: skip


def test_six_inputs(monkeypatch):
    monkeypatch.setattr(countdown, "BLOCK", 16)
    task = Countdown(num_inputs=6, max_input=12)
    tokens, rejected = task.draw("train", 0)
    assert tokens.shape == (16, 45)
    assert task.check(*split_up(task, tokens)).all()
    assert rejected < 0.2, "nearly every target can be made of six numbers"


def test_every_single_change_of_a_small_problem():
    """All tokens at all places: exactly the right answers among them pass."""
    task = Countdown(num_inputs=3, largest=200, max_target=60)
    changed = 0
    for numbers, target in (([2, 2, 8], 12), ([1, 6, 10], 16), ([4, 0, 7], 28)):
        answers = right_answers(tuple(sorted(numbers)), target, 200)
        for answer in sorted(answers)[:6]:
            right = task.vocab.encode(list(answer))
            size, length = len(task.vocab), len(right)
            rows = np.tile(right, (size * length, 1))
            rows[np.arange(len(rows)), np.repeat(np.arange(length), size)] = np.tile(
                np.arange(size), length
            )
            passed = rows[task.check(np.repeat(problem(task, numbers, target), len(rows), 0), rows)]
            got = {tuple(words_of(task, row)) for row in passed}
            expected = {a for a in answers if sum(map(str.__ne__, a, answer)) <= 1}
            assert got == expected
            changed += len(expected) - 1
    assert changed > 0, "2*2 = 2+2: one changed token may be right"


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_scores_against_the_rules(seed):
    """Well-formed nonsense from few numbers, so that much of it is right."""
    task, rng = Countdown(largest=60, max_input=9, max_target=60), np.random.default_rng(seed)
    numbers, target = rng.integers(1, 4, size=4), int(rng.integers(1, 6))
    rows = np.tile(solution(task, "1+1=2, 1+1=2, 1+1=2"), (100, 1))
    rows[:, [0, 2, 6, 8, 12, 14]] = rng.integers(0, 5, size=(100, 6))
    rows[:, [1, 7, 13]] = rng.choice(task.notation.operations, size=(100, 3))
    for e in (0, 6, 12):  # mostly true results
        for row in rows:
            a, b, sign = int(row[e]), int(row[e + 2]), task.vocab.tokens[row[e + 1]]
            true = {"+": a + b, "-": abs(a - b), "*": a * b, "/": a // max(b, 1)}[sign]
            row[e + 4] = true if rng.random() < 0.95 else rng.integers(60)
    prompts = np.repeat(problem(task, numbers, target), 100, axis=0)
    scores = task.scores(prompts, rows)
    for i, row in enumerate(rows):
        released, equations = slow_scores(numbers.tolist(), target, words_of(task, row))
        assert scores["released"][i] == released
        assert scores["equations"][i] == pytest.approx(equations)
    np.testing.assert_array_equal(scores["answer"], task.check(prompts, rows))
    assert (scores["released"] >= scores["answer"]).all()


def test_json_round_trip():
    for task in (Countdown(), Countdown(**SMALL, num_train=7, seed=np.int64(3))):
        again = Countdown(**json.loads(json.dumps(task.parameters())))
        assert again == task
        assert hash(again) == hash(task)
        assert pickle.loads(pickle.dumps(task)) == task
    assert Countdown(seed=1) != Countdown()


PINNED = {
    "paper": ({}, "4891327821787261", "2e81e6867fb863aa", "15817b9878e7ef62"),
    "small": (
        {"num_inputs": 3, "max_input": 60, "max_target": 99, "largest": 999},
        "6655ef45a6b649d8",
        "5f08c555fc2191e6",
        "9007fbd44decad1f",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_the_benchmark_is_a_constant(name):
    parameters, *expected = PINNED[name]
    task = Countdown(**parameters)
    rows = [task.sample(split, 0, 256).tokens.astype("<i4").tobytes() for split in SPLITS]
    assert [hashlib.sha256(row).hexdigest()[:16] for row in rows] == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            (name, bad)
            for name in ("num_inputs", "min_input", "max_input", "min_target", "max_target",
                         "num_heldout_targets", "largest", "num_pauses", "seed")
            for bad in (-1, 2.0, True, None, "3", float("nan"), 2**32)
        ],
        *[("num_inputs", 1), ("num_inputs", 7), ("max_input", 10_000), ("max_target", 10_000)],
        *[("min_input", 100), ("min_target", 101), ("largest", 98), ("largest", 2**22 + 1)],
        *[("num_heldout_targets", 91), ("num_train", 0), ("num_train", 1.5), ("num_train", True)],
        *[("heldout", bad) for bad in (0, 0.5, 1, -0.1, float("nan"), "0.1", None, True)],
    ],
)  # fmt: skip
def test_every_field_is_validated(field, value):
    with pytest.raises(ValueError, match="Countdown") as caught:
        Countdown(**{field: value})
    message = str(caught.value)
    related = {"min_input": "max_input", "min_target": "max_target", "largest": "max_input"}
    assert field in message or (related.get(field, field) in message and str(value) in message)
    assert "\n" not in message


def test_prompts_are_validated():
    task = Countdown(**SMALL)
    prompts = task.prompts("test", 0, 3)
    answers = np.zeros((3, 12), int)
    pause = task.vocab.ids["pause"]
    bad = [
        prompts[:, :-1],
        prompts[0],
        prompts.astype(float),
        np.where(prompts == pause, 3, prompts),
    ]
    bad += [np.where(prompts == prompts[0, 0], wrong, prompts) for wrong in (-1, 401, pause)]
    for wrong in bad:
        for call in (task.kinds, task.world().start, lambda p: task.check(p, answers)):
            with pytest.raises(ValueError, match="prompt"):
                call(wrong)


def test_the_wrong_token_of_a_prompt_is_named():
    task = Countdown(**SMALL)
    for column, token, expected in (
        (1, 401, "a number, 0 to 400"),
        (3, -7, "a number, 0 to 400"),
        (5, 9, "8 pauses"),
    ):
        prompts = task.prompts("test", 0, 3)
        prompts[2, column] = token
        with pytest.raises(ValueError, match=f"prompt token {token}: expected {expected}"):
            task.kinds(prompts)


def test_light_to_import_and_to_use():
    code = """if True:
        import sys, time
        import numpy
        start = time.process_time()
        from nextlat_bench.tasks.countdown import Countdown
        seconds = time.process_time() - start
        task = Countdown()
        tokens = task.sample("train", 0, 10).tokens
        task.check(tokens[:, :13], tokens[:, 13:])
        task.world().legal(task.world().start(tokens[:, :13]))
        heavy = "torch pandas matplotlib osmnx networkx scipy sklearn".split()
        print(f"{seconds:.3f}", *[name for name in heavy if name in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    seconds, *heavy = result.stdout.split()
    assert heavy == []
    assert float(seconds) < 1.0


def test_the_drawn_example():
    failures, tests = doctest.testmod(countdown)
    assert tests >= 4
    assert failures == 0
