"""Answers in free text, as a language model writes them, to the numbers that a checker takes.

Lenient in form, never in content: what is read is decided by the text alone, before anything is
known of the problem, and what cannot be read is wrong.
"""

import operator
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

__all__ = ["checked_texts", "equations_in", "numbers_in"]

Equation = tuple[int, str, int, int]  # a, sign, b, result; -1: no integer, or below 0

# minus, dash; times, dots, asterisk operator; obelus, division slash
SIGNS = str.maketrans("\u2212\u2013\u00d7\u00b7\u22c5\u2217\u00f7\u2215", "--****//")
FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
REPLACED = [  # in this order
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\(?:left|right|,|;|!| )"), ""),
    (re.compile(r"\\(?:boxed|text|mathrm|quad|to|[()\[\]\\])|[-=]>|[→⇒$`{}&]|\*\*"), "\n"),
    (re.compile(r"\\"), "^"),  # other LaTeX is not read
    (re.compile(r"(?m)^[ \t]*(?:[-*+]|[0-9]+[.)])[ \t]+"), ""),  # the bullet of a list
    (re.compile(r"(?<=[0-9)]) *[xX] *(?=[0-9(])"), "*"),
]
NUMBER = r"[0-9]*\.?[0-9]+"
STATEMENT = re.compile(rf"(?:{NUMBER}|[-+*/()= \t^%!√])+")
WORD = re.compile(rf"{NUMBER}|\S")
NODE = r"-?[0-9]+(?:\.[0-9]+)?"
LIST = re.compile(rf"(?<![0-9]){NODE}(?:(?:\s*(?:,|[-=]>|→|\\to)\s*|\s+){NODE})+")
DIGITS = 18  # of the largest number that is read
RANK = {"+": 1, "-": 1, "*": 2, "/": 2}
APPLY: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def checked_texts(texts: Any) -> list[str]:
    """A list of texts; a ValueError where it is none."""
    several = isinstance(texts, Iterable) and not isinstance(texts, str | bytes)
    found: list[Any] = list(texts) if several else [None]
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"completions({str(texts)[:80]!r}): expected a list of texts")
    return found


def equations_in(text: str, count: int) -> list[Equation]:
    """The last `count` operations of a text, in the order in which they are worked out.

    They stand in whole statements, as `83-14=69, 91-88=3, 69/3=23` or `(83-14)/(91-88) = 23`, with
    any words around them. All sides of a statement must be equal. None: []
    """
    text = text.translate(SIGNS)
    for _ in range(count):  # one in another
        text = FRACTION.sub(r"((\1)/(\2))", text)
    for pattern, by in REPLACED:
        text = pattern.sub(by, text)
    statements = [s.lstrip(") \t").rstrip("( \t") for s in STATEMENT.findall(text)]
    found: list[Equation] = []
    for statement in reversed(statements):
        if RANK.keys().isdisjoint(statement) or not re.search("[0-9]", statement):
            continue  # a number, a stated result on a line of its own, or punctuation
        try:
            found = _statement(statement, count - len(found)) + found
        except (ValueError, ZeroDivisionError):
            return []
        if len(found) == count:
            return found
    return []


def numbers_in(text: str) -> list[int]:
    """The last list of two or more numbers, separated by commas, spaces or arrows. None: []

    -1 stands for what is no whole number, or below 0.
    """
    lists = LIST.findall(text)
    words = re.findall(NODE, lists[-1]) if lists else []
    return [int(word) if word.isdigit() and len(word) <= DIGITS else -1 for word in words]


def _statement(text: str, most: int) -> list[Equation]:
    """Its operations; a ValueError where it is malformed, unequal or has more than `most`."""
    sides = [_work_out(side, most) for side in text.split("=") if side.strip()]
    if len({value for value, _ in sides}) != 1:
        raise ValueError("unequal")
    return max((equations for _, equations in sides), key=len)


def _work_out(text: str, most: int) -> tuple[Fraction, list[Equation]]:
    """Value and operations of an expression: Dijkstra's two stacks, so that depth costs nothing."""
    values: list[Fraction] = []
    waiting: list[str] = []
    equations: list[Equation] = []

    def work() -> None:
        sign, b, a = waiting.pop(), values.pop(), values.pop()
        if len(equations) == most:
            raise ValueError("too long")
        made = APPLY[sign](a, b)
        left, right, result = (
            int(x) if x.denominator == 1 and x >= 0 else -1 for x in (a, b, made)
        )
        equations.append((left, sign, right, result))
        values.append(made)

    number_next = True
    for word in WORD.findall(text):
        if number_next != (word.isdigit() or word == "("):
            raise ValueError("malformed")
        if word.isdigit():
            if len(word) > DIGITS:
                raise ValueError("too large")
            values.append(Fraction(int(word)))
            number_next = False
        elif word == "(":
            waiting.append(word)
        elif word == ")":
            while waiting and waiting[-1] != "(":
                work()
            if not waiting:
                raise ValueError("unbalanced")
            waiting.pop()
        elif word in RANK:
            while waiting and RANK.get(waiting[-1], 0) >= RANK[word]:
                work()
            waiting.append(word)
            number_next = True
        else:
            raise ValueError("malformed")
    if number_next or "(" in waiting:
        raise ValueError("malformed")
    while waiting:
        work()
    return values[0], equations
