"""Splits of text: no passage of thirteen words stands in two of them, and they are as large as
asked for. The reference compares every two texts, word by word."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench.tasks import _text
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks._text import PASSAGE, PYTHON, Unit, load_units, split_units


def passages(text: str, size: int = PASSAGE) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def unit(*texts: str, domain: str = "text") -> Unit:
    return Unit.of(" | ".join(texts), [(domain, text) for text in texts])


def closure(units: list[Unit]) -> np.ndarray:
    """(n, n): do two units share a passage, or have neighbours that do? By Warshall."""
    own = [set().union(*(passages(text) for _, text in u.documents)) for u in units]
    n = len(units)
    near = np.array([[i == j or bool(own[i] & own[j]) for j in range(n)] for i in range(n)])
    for k in range(n):
        near |= near[:, [k]] & near[[k]]
    return near


# few words, so that long runs are shared often; a run of one word rolls to the same hash
texts = st.lists(st.sampled_from("abc"), max_size=40).map(" ".join)


@given(st.lists(st.lists(texts, min_size=1, max_size=2), max_size=8))
@settings(max_examples=300)
def test_groups_are_those_of_shared_passages(documents):
    units = [unit(*some) for some in documents]
    group = _text.groups_of_passages(units)
    assert ((group[:, None] == group) == closure(units)).all() if units else len(group) == 0


def test_a_passage_is_thirteen_words():
    words = [*"abcdefghijklm"]
    shared = " ".join(words)
    one, two = unit(f"first {shared} end"), unit(f"second\n{shared} stop")
    assert np.unique(_text.groups_of_passages([one, two])).size == 1
    shared = " ".join(words[:-1])
    one, two = unit(f"first {shared} end"), unit(f"second\n{shared} stop")
    assert np.unique(_text.groups_of_passages([one, two])).size == 2
    # the order of the words counts, and the end of a document ends a passage
    assert np.unique(_text.groups_of_passages([unit(" ".join(words)), unit(" ".join(words[::-1]))]
                                              )).size == 2  # fmt: skip
    halves = [unit(" ".join(words[:7]), " ".join(words[7:])), unit(" ".join(words))]
    assert np.unique(_text.groups_of_passages(halves)).size == 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("heldout", [0.1, 0.2])
def test_no_passage_of_the_python_text_stands_in_two_splits(seed, heldout):
    units = load_units(PYTHON)
    of = split_units(units, seed, heldout)
    seen: list[set[int]] = [set(), set(), set()]
    size = {domain: np.zeros(3) for domain in ("code", "prose")}
    for split, one in zip(of, units, strict=True):
        for domain, text in one.documents:
            seen[split] |= {hash(words) for words in passages(text)}
            size[domain][split] += len(text)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert seen[one].isdisjoint(seen[other])
    for domain, characters in size.items():
        share = characters / characters.sum()
        for split in ("validation", "test"):
            assert share[SPLITS.index(split)] == pytest.approx(heldout, abs=heldout / 2), domain


@given(st.integers(0, 50), st.permutations(range(30)))
@settings(max_examples=50)
def test_splits_depend_on_content_and_seed_alone(seed, order):
    units = [unit(f"text number {i} {'word ' * (i % 7)}") for i in range(30)]
    of = split_units(units, seed, 0.2)
    again = split_units([units[i] for i in order], seed, 0.2)
    assert (of[list(order)] == again).all()


def test_another_seed_another_split():
    units = [unit(f"text number {i}") for i in range(100)]
    ways = {tuple(split_units(units, seed, 0.2)) for seed in range(5)}
    assert len(ways) == 5
    for way in ways:
        assert np.bincount(way).tolist() == [60, 20, 20]


def test_what_is_too_large_is_trained_on():
    """A group of more than the held-out share of a domain; others fit around it."""
    large = "x" * 1000
    units = [unit(large), *(unit(f"{i:02d}" * 30) for i in range(50))]  # 1,000 and 50 x 60
    for seed in range(20):
        of = split_units(units, seed, 0.1)
        assert SPLITS[of[0]] == "train"
        assert np.bincount(of, minlength=3)[1:].tolist() == [7, 7]
    small = [unit(large, domain="other"), *units[1:]]  # all of its own domain
    assert all(SPLITS[split_units(small, seed, 0.1)[0]] == "train" for seed in range(20))


def test_nothing_to_split():
    assert split_units([], 0, 0.1).tolist() == []


def test_another_process_makes_the_same_split():
    """Python salts the hashes of words anew in each."""
    code = (
        "from nextlat_bench.tasks._text import *; "
        "print(split_units(load_units(PYTHON, 2_000_000), 0, 0.1).tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len(said) == 1
