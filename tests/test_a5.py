"""Words over groups: the tables are groups, products are products, long words are held out.

The reference multiplies permutations as Python tuples, one at a time.
"""

import doctest
import hashlib
import json
import pickle
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_runs import here
from scipy.stats import chisquare

from nextlat_bench import registry
from nextlat_bench.data import step_batches
from nextlat_bench.tasks import a5
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks._groups import GROUPS, element_names, multiplication_table
from nextlat_bench.tasks.a5 import A5

ORDERS = {"A5": 60, "S5": 120, "S4": 24, "A4": 12, "S3": 6, "Z60": 60, "A4xZ5": 60}


def tasks(**fixed):
    return st.builds(
        A5,
        group=st.sampled_from(GROUPS),
        length=st.integers(4, 13),
        test_length=st.integers(13, 30),
        seed=st.integers(0, 2**32 - 1),
        heldout=st.just(0.2),
        **fixed,
    )


def images(name: str, points: int) -> tuple[int, ...]:
    """Cycle notation -> the images of 0..points-1, read independently of the code that wrote it."""
    image = list(range(points))
    for cycle in name.strip("()").split(")(") if name != "e" else []:
        for x, y in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            image[int(x) - 1] = int(y) - 1
    return tuple(image)


@pytest.mark.parametrize("group", GROUPS)
def test_tables_are_groups(group):
    table, n = multiplication_table(group), ORDERS[group]
    everything = np.arange(n)
    assert table.shape == (n, n)
    np.testing.assert_array_equal(table[0], everything)  # the identity is number 0
    np.testing.assert_array_equal(table[:, 0], everything)
    np.testing.assert_array_equal(np.sort(table, axis=1), np.tile(everything, (n, 1)))
    np.testing.assert_array_equal(np.sort(table, axis=0), np.tile(everything[:, None], (1, n)))
    np.testing.assert_array_equal(table[table], table[:, table])  # (gh)k = g(hk)
    abelian = np.array_equal(table, table.T)
    assert abelian == (group == "Z60")


def derived_length(table) -> int | None:
    """How often the commutator subgroup must be taken until nothing is left; None: never."""
    inverse = np.argmin(table, axis=1)  # the column of the identity, which is number 0
    group = set(range(len(table)))
    for steps in range(6):
        if group == {0}:
            return steps
        found = {
            int(table[table[g, h], table[inverse[g], inverse[h]]]) for g in group for h in group
        }
        while True:
            closed = found | {int(table[g, h]) for g in found for h in found}
            if closed == found:
                break
            found = closed
        if found == group:
            return None
        group = found
    raise AssertionError("a derived series this long")


def test_which_are_solvable():
    found = {group: derived_length(multiplication_table(group)) for group in GROUPS}
    expected = {"A5": None, "S5": None, "S4": 3, "A4": 2, "S3": 2, "Z60": 1, "A4xZ5": 2}
    assert found == expected


@pytest.mark.parametrize(("group", "points"), [("A5", 5), ("S5", 5), ("S4", 4), ("A4", 4)])
def test_products_are_read_from_left_to_right(group, points):
    """First g, then h, by names alone."""
    table, names = multiplication_table(group), element_names(group)
    number = {images(name, points): i for i, name in enumerate(names)}
    assert len(number) == ORDERS[group]
    assert list(number) == sorted(number)  # lexicographic order
    for g, h in product(number, number):
        assert table[number[g], number[h]] == number[tuple(h[x] for x in g)]


def test_a_product_by_hand():
    table, names = multiplication_table("S3"), element_names("S3")
    # first (12), then (123): 1 -> 2 -> 3, 2 -> 1 -> 2, 3 -> 3 -> 1
    assert names[table[names.index("(12)"), names.index("(123)")]] == "(13)"
    assert names[table[names.index("(123)"), names.index("(12)")]] == "(23)"


def test_direct_products_and_cyclic_groups():
    table, names = multiplication_table("A4xZ5"), element_names("A4xZ5")
    a4 = multiplication_table("A4")
    for g, h in product(range(60), range(60)):
        assert table[g, h] == 5 * a4[g // 5, h // 5] + (g + h) % 5
    assert names[7] == element_names("A4")[1] + "+2"
    assert multiplication_table("Z60")[59, 2] == 1


@given(tasks(), st.sampled_from(SPLITS), st.integers(0, 3000))
@settings(max_examples=30)
def test_tags_are_running_products(task, split, start):
    batch = task.sample(split, start, 3)
    assert batch.tokens.shape == (3, task.length)
    for word, tags in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        running = 0
        for element, tag in zip(word, tags, strict=True):
            running = task.table[running, element]
            assert tag == running
    assert (batch.document == 0).all()
    assert (batch.position == np.arange(task.length)).all()
    assert task.check(batch.tokens, batch.targets).all()


@given(tasks(), st.data())
@settings(max_examples=30)
def test_any_single_corrupted_tag_fails(task, data):
    batch = task.sample("test", 0, 4)
    row = data.draw(st.integers(0, 3))
    place = data.draw(st.integers(0, task.length - 1))
    order = len(task.vocab)
    batch.targets[row, place] = (
        batch.targets[row, place] + data.draw(st.integers(1, order - 1))
    ) % order
    np.testing.assert_array_equal(task.check(batch.tokens, batch.targets), np.arange(4) != row)


def test_words_are_uniform():
    tokens = A5().sample("train", 0, 20_000).tokens
    for place in (0, 5, 11):
        assert chisquare(np.bincount(tokens[:, place], minlength=60)).pvalue > 1e-4
    pairs = np.bincount(tokens[:, 3] * 60 + tokens[:, 4], minlength=3600)
    assert chisquare(pairs).pvalue > 1e-4


@given(tasks(num_train=st.one_of(st.none(), st.integers(1, 3000)), growth=st.integers(0, 2500)))
@settings(max_examples=25)
def test_random_access(task):
    for split in SPLITS:
        whole = task.sample(split, 0, 2600)
        for start, n in ((0, 0), (0, 1), (1023, 2), (1024, 1024), (2500, 100)):
            part = task.sample(split, start, n)
            for name in ("tokens", "targets", "document", "position"):
                np.testing.assert_array_equal(
                    getattr(part, name), getattr(whole, name)[start : start + n]
                )


def test_splits_are_disjoint_and_long_words_begin_with_heldout_ones():
    """3 elements over S3 have 216 words: each is seen, in one split only."""
    task = A5(group="S3", length=3, test_length=9, heldout=0.2)
    words = {split: {tuple(w) for w in task.sample(split, 0, 4096).tokens} for split in SPLITS}
    assert sum(map(len, words.values())) == 216 == len(set.union(*words.values()))
    for split in ("validation", "test"):
        long = task.of_length(split, 0, 2000, 9)
        assert {tuple(word) for word in long.tokens[:, :3]} == words[split]
        np.testing.assert_array_equal(long.targets, task.answers(long.tokens))
        np.testing.assert_array_equal(task.of_length(split, 0, 9, 2).tokens, long.tokens[:9, :2])
    assert 0.5 < task.rejection_rate("test") < 0.95
    with pytest.raises(ValueError, match="no test word of length 1 over S3: too few words"):
        A5(group="S3", length=1, heldout=0.01).sample("test", 0, 1)


def test_a_fixed_set_returns_in_another_order():
    task = A5(num_train=700)
    first, second = (task.sample("train", start, 700).tokens for start in (0, 700))
    assert len({tuple(word) for word in first}) == 700
    assert {tuple(word) for word in first} == {tuple(word) for word in second}
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, A5().sample("train", 0, 700).tokens)


def test_words_of_one_element_cannot_grow():
    with np.errstate(all="raise"):
        batch = A5(length=1, growth=10).sample("train", 0, 30)
    assert (batch.document == 0).all()
    np.testing.assert_array_equal(batch.targets, batch.tokens)


def test_words_grow():
    """An element at a time; a row is always full, and its last word is what is left."""
    task, whole = A5(growth=50), A5().sample("train", 0, 60)
    batch = task.sample("train", 0, 60)
    np.testing.assert_array_equal(batch.tokens, whole.tokens)
    lengths = [np.bincount(document).tolist() for document in batch.document]
    expected = [[2] * 6, [3] * 4, [4] * 3, [5, 5, 2], [6] * 2, [7, 5], [8, 4], [9, 3], [10, 2]]
    expected += [[11, 1]]
    assert lengths == [cut for cut in expected for _ in range(5)] + [[12]] * 10
    for row in range(60):
        for document in range(batch.document[row].max() + 1):
            here = batch.document[row] == document
            word = batch.tokens[row, here]
            np.testing.assert_array_equal(batch.targets[row, here], task.answers(word[None])[0])
            np.testing.assert_array_equal(batch.position[row, here], np.arange(len(word)))
    for split in ("validation", "test"):  # nothing grows where it is measured
        assert (task.sample(split, 0, 60).document == 0).all()
    (growing,), (grown,) = (step_batches(task, step, 25, None, 1) for step in (1, 2))
    assert growing.packed
    assert not grown.packed


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "1d604b1c26fab1fc"),
        ({"test_length": 240, "growth": 100}, "100419f9b8015ec8"),
        ({"num_train": 2000}, "1d604b1c26fab1fc"),
        ({"group": "S5"}, "22a4a1b6d9309991"),
        ({"group": "S4"}, "083fd159ad16949d"),
        ({"group": "A4"}, "e6862b6488c13fbd"),
        ({"group": "S3"}, "e1fc416db1bceaf2"),
        ({"group": "Z60"}, "214000ac1a2c133b"),
        ({"group": "A4xZ5"}, "86607a24ef3db2ca"),
    ],
)
def test_the_benchmark_is_a_constant(parameters, expected):
    task, content = A5(**parameters), hashlib.sha256()
    for split in SPLITS:
        batch = task.sample(split, 0, 128)
        for values in (batch.tokens, batch.targets, batch.document):
            content.update(values.astype("<i4").tobytes())
    content.update(task.of_length("test", 0, 64, task.test_length).targets.astype("<i4").tobytes())
    assert content.hexdigest()[:16] == expected


def test_json_and_pickle():
    task = A5(group="A4xZ5", length=np.int64(5), num_train=9, growth=4, seed=3)
    again = registry.from_json("tasks", json.loads(json.dumps(registry.to_json(task))))
    assert again == task
    assert hash(again) == hash(task)
    copied = pickle.loads(pickle.dumps(task))
    np.testing.assert_array_equal(copied.prompts("test", 0, 3), task.prompts("test", 0, 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("group", bad) for bad in ("A6", "a5", None, ["A5"])],
        *[(name, bad) for name in ("length", "test_length") for bad in (0, -1, 2.0, True, None)],
        ("test_length", 11),
        *[("num_train", bad) for bad in (0, -1, 1.5, True)],
        *[("growth", bad) for bad in (-1, 1.5, None)],
        *[("heldout", bad) for bad in (0, 0.5, -0.1, float("nan"), "0.1", None)],
        *[("seed", bad) for bad in (-1, 2**32, 0.5)],
    ],
)
def test_bad_parameters_name_the_field_and_the_value(field, value):
    with pytest.raises(ValueError, match=rf"A5\.{field} = ") as error:
        A5(**{field: value})
    assert repr(value) in str(error.value)


def test_bad_calls():
    task = A5()
    with pytest.raises(ValueError, match="length = 37: test words have 1 to 36 elements"):
        task.of_length("test", 0, 1, 37)
    with pytest.raises(ValueError, match="length = 13: train words have 1 to 12 elements"):
        task.of_length("train", 0, 1, 13)
    for call in (("dev", 0, 1), ("train", -1, 1), ("train", 0, 1.5)):
        with pytest.raises(ValueError, match=" = "):
            task.sample(*call)


@pytest.mark.parametrize("group", GROUPS)
def test_words_are_of_elements_and_answers_of_whole_numbers(group):
    """The first and the last element are; what is next to them is none, on either side."""
    order = ORDERS[group]
    task, words = A5(group=group), np.array([[0, order - 1, 0], [0, 0, 0]])
    answers = task.answers(words)
    assert answers.tolist() == [[0, order - 1, order - 1], [0, 0, 0]]
    for wrong in (-1, order):
        with pytest.raises(ValueError, match=f"{wrong}.*: expected elements, 0 to {order - 1}"):
            task.answers(np.where(words == order - 1, wrong, words))
    with pytest.raises(ValueError, match="answers of type float64: expected integers"):
        task.check(words, answers * 1.0)


def test_words_may_be_tested_at_the_length_of_training():
    task = A5(length=7, test_length=7)
    words, batch = task.of_length("test", 0, 9, 7), task.sample("test", 0, 9)
    np.testing.assert_array_equal(words.tokens, batch.tokens)
    assert words.tokens.shape == (9, 7)


def test_doctest_and_readable_text():
    assert doctest.testmod(a5).failed == 0
    assert doctest.testmod(a5).attempted >= 3


def test_it_needs_numpy_alone():
    code = (
        "import sys; from nextlat_bench.tasks.a5 import A5; A5().sample('train', 0, 9); "
        "bad = {'torch', 'pandas', 'matplotlib', 'osmnx', 'networkx', 'scipy'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_of_several_documents_say_where_each_begins(tmp_path):
    """A5's first words at the laptop's scale are short, side by side in a row."""
    out = tmp_path / "a5.npz"
    text = here("sample", "a5", "-n", "1").stdout.strip()
    assert here("sample", "a5", "-n", "1", "--out", str(out)).returncode == 0
    made = np.load(out)
    assert sorted(made) == ["document", "position", "targets", "tokens", "vocabulary"]
    [begins] = made["position"] == 0
    assert begins.sum() == len(np.unique(made["document"])) == len(text.split("; ")) > 1
    ends = np.flatnonzero(np.append(begins[1:], True))
    products = [word.rpartition(" = ")[2] for word in text.split("; ")]
    assert products == made["vocabulary"][made["targets"][0, ends]].tolist()
