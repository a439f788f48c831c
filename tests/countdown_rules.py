"""The rules of Countdown in words, one problem at a time: the reference of its tests."""

from collections import Counter
from functools import cache

SMALL = {"num_inputs": 3, "max_input": 20, "max_target": 40, "num_heldout_targets": 3}
SMALL |= {"largest": 400, "heldout": 0.1}


def split_up(task, tokens):
    first = task.notation.prompt_length
    return tokens[:, :first], tokens[:, first:]


def words_of(task, tokens):
    """All tokens of one sequence, padding included."""
    vocab = task.vocab.tokens
    return [vocab[token] if 0 <= token < len(vocab) else "?" for token in tokens]


def problem_of(task, prompt):
    """(numbers, target) as Python integers."""
    *numbers, target = prompt[: task.num_inputs + 1].tolist()
    return numbers, target


def is_true(a, sign, b, c):
    """Is `a sign b = c` exact?"""
    if sign == "+":
        return a + b == c
    if sign == "-":
        return a - b == c
    if sign == "*":
        return a * b == c
    return sign == "/" and b != 0 and b * c == a


def slow_check(numbers, target, words):
    """The strict checker, on the words of a completion."""
    bag, words = Counter(numbers), list(words)
    for e in range(len(numbers) - 1):
        if len(words) < 6:
            return False
        a, sign, b, equals, c, after = words[:6]
        words = words[6:]
        if not (a.isdigit() and b.isdigit() and c.isdigit() and equals == "="):
            return False
        for operand in (int(a), int(b)):
            if bag[operand] == 0:
                return False
            bag[operand] -= 1
        if not is_true(int(a), sign, int(b), int(c)):
            return False
        bag[int(c)] += 1
        if after != ("end" if e == len(numbers) - 2 else ","):
            return False
    return +bag == Counter([target]) and set(words) <= {"pad"}


def slow_scores(numbers, target, words):
    """(released, equations) of well-formed words: every sixth one a comma, the last `end`."""
    bag, known, right, loose = Counter(numbers), {*numbers, target}, 0, True
    for e in range(len(numbers) - 1):
        a, sign, b, equals, c = words[6 * e : 6 * e + 5]
        exact = a.isdigit() and b.isdigit() and c.isdigit() and equals == "="
        exact = exact and is_true(int(a), sign, int(b), int(c))
        if not exact:
            loose = False
            continue
        a, b, c = int(a), int(b), int(c)
        loose &= a in known and b in known
        known.add(c)
        needed = Counter([a, b])
        if needed <= bag:
            right += 1
            bag = bag - needed + Counter([c])
    return loose and words[-2] == str(target), right / (len(numbers) - 1)


@cache
def right_answers(numbers, target, largest):
    """Every right answer, as tuples of words: numbers is a sorted tuple."""
    if len(numbers) == 1:
        return frozenset({("end",)} if numbers[0] == target else ())
    answers = set()
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            rest = [x for place, x in enumerate(numbers) if place not in (i, j)]
            made = [("+", a + b), ("*", a * b), ("-", a - b)]
            made += [("/", a // b)] if b and a % b == 0 else []
            for sign, c in made:
                if 0 <= c <= largest:
                    comma = (",",) if rest else ()
                    head = (str(a), sign, str(b), "=", str(c), *comma)
                    tails = right_answers(tuple(sorted([*rest, c])), target, largest)
                    answers |= {(*head, *tail) for tail in tails}
    return frozenset(answers)
