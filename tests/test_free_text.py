"""Answers in free text: lenient in form, never in content."""

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nextlat_bench.tasks._free_text import equations_in
from nextlat_bench.tasks.countdown import Countdown
from nextlat_bench.tasks.path_star import PathStar

COUNTDOWN = Countdown()
PROMPT = COUNTDOWN.notation.write_prompts(np.array([[14, 83, 88, 91]]), np.array([23]))
STAR = PathStar(degree=2, length=3, num_nodes=7)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("83-14=69, 91-88=3, 69/3=23", True),
        (" 83 - 14 = 69\n91\u221288 = 3\n69÷3 = 23.\n", True),
        ("I try 83+14=97. No.\n1. 83-14=69\n2) 91-88=3\n- 69/3=23", True),
        ("Step 1: 91-88=3; Step 2: 83-14=69; Step 3: 69/3=23", True),
        ("The ANSWER is **(83-14)/(91-88) = 23**!", True),
        ("(83-14)/(91-88)", True),
        ("23 = (83 - 14) / (91 - 88)", True),
        ("(83-14)/(91-88) = 69/3 = 23", True),
        (r"\boxed{\frac{83-14}{91-88}=23}", True),
        (r"\[ \left(83 - 14\right) \div (91 - 88) \]", True),
        ("83-14=69 (left: 88, 91, 69)\n91-88=3 (left: 69, 3)\n69/3=23 (left: 23)", True),
        ("<think>83+14=97</think><answer>(83-14)/(91-88)</answer> (with 4 numbers)", True),
        ("(83-14)/(91-88)" + "\n" * 100_000, True),  # in a time that grows with its length
        ("((" * 50_000 + "(83-14)/(91-88)" + "))" * 50_000, True),
        ("83-14=69, 91-88=3", False),
        ("83-14=69, 91-88=3, 69/3=24", False),
        ("83-14=69, 91-88=3, 3/69=23", False),  # in the wrong order
        ("14-83=69, 91-88=3, 69/3=23", False),
        ("(14-83)/(88-91) = 23", False),  # below 0 on the way
        ("83-14=69, 83-14=69, 69/3=23", False),  # used twice
        ("83-14=69, 91-88=3, 69/3=23, 23*1=23", False),
        ("(83-14)/(91-88) = 22", False),
        ("83.0-14=69, 91-88=3, 69/3=23", False),
        ("83-14=69, 91-88=3, 69/3=23^1", False),
        (r"83-14=69, 91-88=3, \sqrt{69}/3=23", False),
        ("(83-14)/(91-91+88-88) = 23", False),
        ("(83-14)/(91-88", False),
        ("9" * 5_000 + "+1+1+1", False),
        ("", False),
    ],
)
def test_countdown_by_hand(text: str, right: bool) -> None:
    assert COUNTDOWN.check(PROMPT, COUNTDOWN.completions([text])) == right


def test_fractions_stand_in_fractions() -> None:
    found = equations_in(r"\frac{\dfrac{24}{2}}{3+1}", 3)
    assert found == [(24, "/", 2, 12), (3, "+", 1, 4), (12, "/", 4, 3)]


def test_what_it_writes_it_reads() -> None:
    for task in (COUNTDOWN, STAR):
        tokens = task.sample("test", 0, 500).tokens
        prompts = task.prompts("test", 0, 500)
        texts = [task.text(row) for row in tokens]
        assert (task.completions(texts) == tokens[:, prompts.shape[1] :]).all()
        texts = [task.text(row) for row in prompts]  # an echo is no answer
        assert not task.check(prompts, task.completions(texts)).any()
    assert COUNTDOWN.completions([]).shape == (0, COUNTDOWN.max_new_tokens)
    assert STAR.completions([]).shape == (0, STAR.max_new_tokens)


def test_expressions_are_worked_out_as_python_does() -> None:
    rng = random.Random(0)
    for _ in range(2_000):
        parts = [str(rng.randint(0, 9)) for _ in range(4)]
        while len(parts) > 1:
            i = rng.randrange(len(parts) - 1)
            joined = f"{parts[i]} {rng.choice('+-*/')} {parts[i + 1]}"
            parts[i : i + 2] = [f"({joined})" if rng.random() < 0.6 else joined]
        exact = " ".join(
            f"Fraction({word})" if word.isdigit() else word
            for word in parts[0].replace("(", "( ").replace(")", " )").split()
        )
        try:
            value = eval(exact, {"Fraction": Fraction})
        except ZeroDivisionError:
            assert equations_in(parts[0], 3) == []
            continue
        whole = value.denominator == 1 and value >= 0
        assert equations_in(parts[0], 3)[-1][-1] == (int(value) if whole else -1)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("4,5,2", True),
        ("The path is 4 -> 5 → 2.", True),
        ("[4, 5, 2]", True),
        ("6,0|5,2|4,6|4,5/4,2=4,5,2", True),
        ("First 4,6,0; no:\n4 5 2\n", True),
        ("4,6,0", False),
        ("5,2", False),
        ("4,5,2,2", False),
        ("4,5," + "9" * 5_000, False),
        ("4,5,-2", False),
        ("4,5,2,-1", False),
        ("4,5,2.5", False),
        ("4.5, 2", False),
        ("none", False),
    ],
)
def test_path_star_by_hand(text: str, right: bool) -> None:
    prompt = STAR.vocab.encode([*"60|52|46|45/42="])[None]
    assert STAR.check(prompt, STAR.completions([text])) == right


@pytest.mark.parametrize("texts", ["4,5,2", b"4", None, 3, [3], [b"4,5,2"], ["4,5,2", None]])
def test_what_is_no_list_of_texts_is_refused(texts: Any) -> None:
    for task in (COUNTDOWN, STAR):
        with pytest.raises(ValueError, match=r"completions\(.*: expected a list of texts"):
            task.completions(texts)
