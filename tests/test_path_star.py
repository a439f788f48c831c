"""Path-Star's promises: right stars, disjoint splits, an exact checker, its world, its shortcut.

The reference reads sequences as text, one at a time, into plain dictionaries.
"""

import doctest
import hashlib
import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from star_texts import PAPER, VARIANTS, arms_of, encode, parse, tasks, with_the_path

from nextlat_bench import registry
from nextlat_bench.tasks import _draws, path_star
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks._draws import BLOCK
from nextlat_bench.tasks.path_star import PathStar


@given(tasks(), st.sampled_from(SPLITS))
@settings(max_examples=40)
def test_sequences_are_stars(task, split):
    batch = task.sample(split, 5, 4)
    tokens = with_the_path(task, batch)
    assert batch.tokens.shape == batch.targets.shape == (4, task.max_length)
    for i, row in enumerate(tokens):
        text = task.text(row)
        edges, start, goal, path = parse(text)
        graph = nx.DiGraph(edges)
        assert len(edges) == graph.number_of_edges() == task.degree * (task.length - 1)
        assert nx.is_arborescence(graph)
        assert graph.out_degree(start) == task.degree
        lengths = nx.shortest_path_length(graph, start)
        leaves = [node for node, out in graph.out_degree() if out == 0]
        assert [lengths[leaf] for leaf in leaves] == [task.length - 1] * task.degree
        assert goal in leaves
        assert max(graph) < task.num_nodes
        assert min(graph) >= 0
        right = nx.shortest_path(graph, start, goal)
        assert path == (right[::-1] if task.variant == "reversed" else right)
        # the text, token by token; scored are the path and the end, nothing else
        words = [*re.findall(r"\d+|[|/=]", text), "end"]
        assert words == task.vocab.decode(row)
        assert len(words) == task.max_length
        read = task.vocab.decode(batch.tokens[i])
        if task.variant == "teacherless":
            assert read == [*words[: -len(path) - 1], *"$" * len(path), "end"]
        else:
            assert read == words
        scored = [-1] * words.index("=") + [*path, task.vocab.ids["end"], -1]
        assert batch.targets[i].tolist() == scored
    np.testing.assert_array_equal(batch.position, np.tile(np.arange(task.max_length), (4, 1)))
    assert (batch.document == 0).all()


def test_the_vocabulary():
    assert PathStar(num_nodes=9).vocab.tokens == (*"012345678", "|", "/", "=", "end", "pad")
    teacherless = PathStar(num_nodes=9, variant="teacherless").vocab
    assert teacherless.tokens == (*"012345678", "|", "/", "=", "$", "end", "pad")
    assert teacherless.tokens[teacherless.end] == "end"
    assert teacherless.tokens[teacherless.pad] == "pad"


def test_the_papers_lengths():
    for (degree, length), tokens in PAPER.items():
        for variant in VARIANTS:
            task = PathStar(degree=degree, length=length, num_nodes=100, variant=variant)
            assert task.sample("test", 0, 1).tokens.shape == (1, tokens)
            assert task.max_length == tokens
            assert task.max_new_tokens == length + 1


def test_text_by_hand():
    task = PathStar(degree=2, length=3, num_nodes=12)
    tokens = encode(task, "10,7|7,4|10,3|3,11/10,11=10,3,11 end pad")
    assert len(tokens) == 20
    assert task.text(tokens) == "10,7|7,4|10,3|3,11/10,11=10,3,11"
    assert task.text(tokens[:15]) == "10,7|7,4|10,3|3,11/10,11="
    assert task.check(tokens[None, :15], tokens[None, 15:]).all()
    dummies = PathStar(degree=2, length=3, num_nodes=12, variant="teacherless")
    tokens = encode(dummies, "10,7|7,4|10,3|3,11/10,11=$,$,$ end")
    assert dummies.text(tokens) == "10,7|7,4|10,3|3,11/10,11=$,$,$"
    right = encode(dummies, "10,3,11 end")
    np.testing.assert_array_equal(dummies.answers(tokens[None])[0, 14:18], right)


@pytest.mark.parametrize("heldout", [0.1, 0.3])
def test_everything_random_is_uniform(heldout):
    """The centre, the goal's arm, the right first edge's place, the order of an arm's edges."""
    task = PathStar(degree=3, length=3, num_nodes=10, heldout=heldout)
    centre, goal_arm, places, orders = Counter(), Counter(), Counter(), Counter()
    for row in task.sample("train", 0, 6000).tokens:
        edges, start, goal, path = parse(task.text(row))
        centre[start] += 1
        goal_arm[[arm[-1] for arm in arms_of(edges, start)].index(goal)] += 1
        places[edges.index((path[0], path[1]))] += 1
        arms = arms_of(edges, start)
        orders[tuple(edges.index((start, a)) < edges.index((a, b)) for a, b in arms)] += 1
    for counts, kinds in ((centre, 10), (goal_arm, 3), (places, 6), (orders, 8)):
        assert len(counts) == kinds
        assert chisquare(list(counts.values())).pvalue > 1e-4


@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.data())
@settings(max_examples=20)
def test_choices_are_uniform(seed, num, data):
    k = data.draw(st.integers(1, min(num, 4)))
    rows = path_star._distinct(np.random.default_rng(seed), 6000, num, k)
    assert rows.shape == (6000, k)
    assert all(len(set(row)) == k for row in rows.tolist())
    for column in rows.T:
        bins = min(num, 8)
        expected = np.bincount(np.arange(num) * bins // num)
        counts = np.bincount(column.astype(int) * bins // num, minlength=bins)
        assert chisquare(counts, expected * 6000 / num).pvalue > 1e-6
    if num <= 4 and k == num:  # every order of a shuffle
        counts = Counter(map(tuple, rows.tolist()))
        assert chisquare(list(counts.values())).pvalue > 1e-6


@pytest.mark.parametrize("num_train", [None, 1500])
def test_random_access(num_train):
    task = PathStar(num_train=num_train, variant="teacherless")
    for split in SPLITS:
        whole = task.sample(split, 0, 2 * BLOCK + 30)
        for start, n in ((0, 3), (BLOCK - 2, 5), (7, 0), (10, BLOCK + 100), (2 * BLOCK + 9, 21)):
            part = task.sample(split, start, n)
            for name in ("tokens", "targets", "document", "position"):
                part_, whole_ = getattr(part, name), getattr(whole, name)[start : start + n]
                np.testing.assert_array_equal(part_, whole_)
            prompts = task.prompts(split, start, n)
            np.testing.assert_array_equal(prompts, whole.tokens[start : start + n])
    far = task.sample("train", 10**6 * BLOCK, 2).tokens
    task.sample("train", 0, 2).tokens[:] = 0  # a caller cannot write into the cache
    assert task.sample("train", 0, 2).tokens.any()
    _draws._block.cache_clear()
    np.testing.assert_array_equal(task.sample("train", 10**6 * BLOCK, 2).tokens, far)
    assert (far != whole.tokens[:2]).any()


def texts_of(task, split):
    return [task.text(row) for row in with_the_path(task, task.sample(split, 0, 3000))]


def graph_of(text):
    edges, *_ = parse(text)
    return frozenset(edges)


@pytest.mark.parametrize("variant", VARIANTS)
def test_splits_share_no_graph(variant):
    """840 graphs, each drawn many times, with every goal and in every order of its edges."""
    task = PathStar(degree=2, length=3, num_nodes=7, heldout=0.2, variant=variant)
    texts = {split: texts_of(task, split) for split in SPLITS}
    graphs = {split: set(map(graph_of, texts[split])) for split in SPLITS}
    train, validation, test = graphs.values()
    assert not train & validation
    assert not train & test
    assert not validation & test
    every = 7 * 6 * 5 * 4 * 3 // 2
    assert len(train | validation | test) > 0.95 * every
    assert len(test) == pytest.approx(0.2 * every, rel=0.25)
    asked = Counter((graph_of(text), parse(text)[2]) for text in texts["test"])
    both = Counter(graph for graph, _ in asked)
    assert all(both[graph] == 2 for graph in test), "every test graph is asked for either goal"
    assert task.rejection_rate("test") == pytest.approx(0.8, abs=0.06)
    assert task.rejection_rate("train") == pytest.approx(0.4, abs=0.03)
    other = PathStar(degree=2, length=3, num_nodes=7, heldout=0.2, variant=variant, seed=1)
    assert test & set(map(graph_of, texts_of(other, "train"))), "the seed decides, too"


def test_too_few_graphs_for_the_splits():
    task = PathStar(degree=1, length=2, num_nodes=2, heldout=0.01)
    with pytest.raises(ValueError, match=r"too few graphs for heldout = 0\.01"):
        task.sample("test", 0, 1)


def test_a_fixed_training_set_repeats_in_a_new_order():
    size = 1100
    task = PathStar(num_train=size)
    epochs = [task.sample("train", e * size, size).tokens.tolist() for e in range(3)]
    assert len({tuple(row) for row in epochs[0]}) == size
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    for one, other in pairwise(epochs):
        assert np.mean([a == b for a, b in zip(one, other, strict=True)]) < 0.02
    assert epochs[0] == PathStar().sample("train", 0, size).tokens.tolist()
    test, fresh = task.sample("test", 0, 50).tokens, PathStar().sample("test", 0, 50).tokens
    np.testing.assert_array_equal(test, fresh)


@given(tasks(), st.data())
@settings(max_examples=60)
def test_check_is_exact(task, data):
    prompts = task.prompts("test", 0, 3)
    right = with_the_path(task, task.sample("test", 0, 3))[:, task.prompt_length :]
    pads = np.full((3, data.draw(st.integers(0, 3))), task.vocab.pad)
    right = np.concatenate((right, pads), axis=1)
    assert task.check(prompts, right).all()
    assert not task.check(prompts, right[:, : task.length]).any()
    np.testing.assert_array_equal(task.scores(prompts, right)["answer"], 1)
    np.testing.assert_array_equal(task.scores(prompts, right)["branch"], 1)

    row, column = data.draw(st.integers(0, 2)), data.draw(st.integers(0, right.shape[1] - 1))
    token = data.draw(st.integers(0, len(task.vocab) - 1))
    wrong = right.copy()
    wrong[row, column] = token
    equal = np.arange(3) != row
    equal[row] = token == right[row, column]
    np.testing.assert_array_equal(task.check(prompts, wrong), equal)
    scores = task.scores(prompts, wrong)
    np.testing.assert_array_equal(scores["answer"], equal)
    np.testing.assert_array_equal(scores["branch"], equal if column == 1 else np.ones(3))
    np.testing.assert_array_equal(task.scores(prompts, right[:, :1])["branch"], 0)


@given(tasks(), st.data())
@settings(max_examples=80)
def test_malformed_prompts_are_refused(task, data):
    """One token of a prompt changed: unless the reference still reads a star, a ValueError."""
    prompts = task.prompts("test", 0, 3)
    column = data.draw(st.integers(0, prompts.shape[1] - 1))
    row, token = data.draw(st.integers(0, 2)), data.draw(st.integers(0, len(task.vocab) - 1))
    assume(token != prompts[row, column])
    before = prompts[row, column]
    prompts[row, column] = token
    tokens = prompts[row]
    star = False
    if max(token, before) < task.num_nodes:  # a node for a node
        edges, start, goal, _ = parse(task.text(tokens[: task.prompt_length]))
        tree = len(set(edges)) == len(edges) and nx.is_arborescence(nx.DiGraph(edges))
        arms = arms_of(edges, start) if tree else []
        star = [len(arm) for arm in arms] == [task.length - 1] * task.degree
        star &= goal in [arm[-1] for arm in arms]
    if star:
        paths, arm = task.read(prompts)
        assert paths[row, :, 1:].tolist() == arms
        assert paths[row, arm[row], -1] == goal
        return
    calls = [task.read, task.solve, lambda prompts: task.check(prompts, prompts)]
    for call in calls + ([task.world().start] if task.world() else [task.answers]):
        with pytest.raises(ValueError, match=f"prompt {row} is malformed"):
            call(prompts)


def test_prompts_of_another_shape_are_refused():
    task = PathStar()
    prompts = task.prompts("test", 0, 3)
    for bad in (prompts[0], prompts[:, :-1], task.sample("test", 0, 3).tokens):
        with pytest.raises(ValueError, match=r"prompts of shape .*: expected \(n, 27\) tokens"):
            task.world().start(bad)
    with pytest.raises(ValueError, match="prompts of type float64: expected integers"):
        task.world().start(prompts * 1.0)
    for bad in (np.zeros(3, int), [], None):
        with pytest.raises(ValueError, match=r"completions of shape .*: expected \(n, P\) and"):
            task.scores(prompts, bad)
    for column in (3, 4, 24, 25, 26):  # a tail, a head, the start, the goal, "="
        wrong = prompts.copy()
        wrong[1, column] = -99
        with pytest.raises(ValueError, match="prompt 1 is malformed"):
            task.check(wrong, wrong)


def test_the_first_malformed_prompt_is_named():
    task = PathStar()
    prompts = task.prompts("test", 0, 5)
    prompts[[2, 3], -1] = 0  # "="
    with pytest.raises(ValueError, match="prompt 2 is malformed"):
        task.read(prompts)


def test_rings_and_forks_are_no_stars():
    """As many edges as a star has, every node with one edge in, and still none."""
    task = PathStar(degree=2, length=3, num_nodes=9)
    for edges in ("0,1|1,2|0,3|4,5", "0,1|1,2|0,3|1,4", "0,1|1,2|3,4|4,3", "0,1|1,2|0,1|1,2",
                  "0,1|1,2|0,3|3,2", "0,1|1,0|0,3|3,2", "0,1|0,2|0,3|3,4"):  # fmt: skip
        for goal in range(1, 5):
            with pytest.raises(ValueError, match="prompt 0 is malformed"):
                task.read(encode(task, f"{edges}/0,{goal}=")[None])


def digest(task):
    content = hashlib.sha256()
    for split in SPLITS:
        batch = task.sample(split, 0, 64)
        content.update(batch.tokens.astype("<i4").tobytes())
        content.update(batch.targets.astype("<i4").tobytes())
    return content.hexdigest()[:16]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "d24833ae6a6442a7"),
        ({"degree": 2, "length": 10, "num_nodes": 100, "num_train": 2000}, "7141a614446831bd"),
        ({"degree": 5, "length": 5, "num_nodes": 100, "num_train": 2000}, "a7f2608852fcfe64"),
        ({"degree": 7, "length": 7, "num_nodes": 100, "num_train": 2000}, "063798c4fc00a5e3"),
        ({"variant": "reversed"}, "2dd46ded182fbfed"),
        ({"variant": "teacherless"}, "eca443abf20ddf0b"),
    ],
)
def test_the_benchmark_is_a_constant(parameters, expected):
    assert digest(PathStar(**parameters)) == expected


def test_json_and_pickle():
    task = PathStar(degree=3, num_nodes=np.int64(30), variant="reversed", num_train=9, seed=4)
    again = registry.from_json("tasks", json.loads(json.dumps(registry.to_json(task))))
    assert again == task
    assert hash(again) == hash(task)
    parameters = "degree, length, num_nodes, variant, num_train, heldout, seed"
    assert ", ".join(task.parameters()) == parameters
    copied = pickle.loads(pickle.dumps(task))
    np.testing.assert_array_equal(copied.prompts("test", 0, 3), task.prompts("test", 0, 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("degree", bad) for bad in (0, -1, 2.0, True, None)],
        *[("length", bad) for bad in (1, 0, "5", None)],
        *[("num_nodes", bad) for bad in (8, 0, -3, 20.0)],
        *[("variant", bad) for bad in ("backward", None, 1, ["forward"])],
        *[("num_train", bad) for bad in (0, -1, 1.5, True)],
        *[("heldout", bad) for bad in (0, 0.5, -0.1, float("nan"), "0.1", None)],
        *[("seed", bad) for bad in (-1, 2**32, 0.5, None)],
    ],
)
def test_every_field_is_validated(field, value):
    with pytest.raises(ValueError, match=rf"PathStar\.{field} = ") as caught:
        PathStar(**{field: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_few_numbers_for_the_nodes():
    expected = r"num_nodes = 42: expected at least 1 \+ degree \* \(length - 1\) = 43"
    with pytest.raises(ValueError, match=expected):
        PathStar(degree=7, length=7, num_nodes=42)
    task = PathStar(degree=7, length=7, num_nodes=43)
    nodes = task.sample("train", 0, 100).tokens[:, : 3 * 42]
    assert {len(set(row)) for row in nodes.tolist()} == {43 + 2}  # every number, "|" and "/"


def test_light_to_import_and_to_use():
    code = """if True:
        import sys
        from nextlat_bench.tasks.path_star import PathStar
        task = PathStar()
        task.world().start(task.prompts("test", 0, 10))
        heavy = "torch pandas matplotlib osmnx networkx sklearn scipy".split()
        print(*[name for name in heavy if name in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_the_drawn_example():
    failures, tests = doctest.testmod(path_star)
    assert tests >= 5
    assert failures == 0
