"""Taxi's promises: splits, random access, shortest paths, digests, JSON, validation, lightness."""

import doctest
import hashlib
import json
import pickle
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from hand_maps import DIRECTIONS, random_streets, task_on
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

from nextlat_bench.tasks import _draws, taxi
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks.taxi import StreetMap, Taxi

GENERATORS = ("random", "shortest", "noisy")


@pytest.fixture(scope="module")
def heliopolis():
    return StreetMap.load("heliopolis")


def test_turns_are_uniform_over_the_legal_ones():
    task = task_on(5, min_nodes=9)
    tokens = task.sample("train", 0, 4000).tokens
    everything = np.concatenate([task.sample(split, 0, 4000).tokens for split in SPLITS])
    assert len(everything) == 3 * len(tokens)
    # the first turn from a node, over walks of all pairs weighted back to their natural shares
    weight = np.repeat([1 - task.rejection_rate(split) for split in SPLITS], 4000)
    for node in range(task.map.num_nodes):
        here = everything[:, 0] == node
        shares = np.bincount(everything[here, 2] - task.map.num_nodes, weight[here], 8)
        legal = task.map.exits[node]
        np.testing.assert_allclose((shares / shares.sum())[legal], 1 / legal.sum(), atol=0.06)
        assert shares[~legal].sum() == 0


@pytest.mark.parametrize("generator", GENERATORS)
def test_random_access(generator, monkeypatch):
    task = task_on(7, generator=generator)
    for module in (_draws, taxi):
        monkeypatch.setattr(module, "BLOCK", 16)
    _draws._block.cache_clear()
    whole = task.sample("train", 0, 100)
    _draws._block.cache_clear()
    for start, n in ((0, 0), (0, 1), (15, 2), (16, 16), (37, 63), (99, 1)):
        part = task.sample("train", start, n)
        for name in ("tokens", "targets", "document", "position"):
            np.testing.assert_array_equal(
                getattr(part, name), getattr(whole, name)[start : start + n]
            )
    _draws._block.cache_clear()
    assert len(task.sample("train", 10**9, 3)) == 3
    assert _draws._block.cache_info().misses <= 2, "only the blocks asked for are drawn"
    _draws._block.cache_clear()
    assert not np.array_equal(whole.tokens[:16], whole.tokens[16:32])
    whole.tokens[:] = 0
    assert task.sample("train", 0, 100).tokens.any(), "a caller cannot write into the cache"


def test_heldout_pairs_never_occur_in_training(heliopolis):
    task = Taxi(streets=heliopolis, radius=600)
    seen = {tuple(pair) for pair in task.sample("train", 0, 20_000).tokens[:, :2].tolist()}
    for split in ("validation", "test"):
        assert not seen & {tuple(pair) for pair in task.prompts(split, 0, 10**6).tolist()}
        assert not seen & {tuple(p) for p in task.sample(split, 0, 2000).tokens[:, :2].tolist()}


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.49))
@settings(max_examples=20)
def test_splits_are_shares_of_the_pairs(seed, heldout):
    task = Taxi(streets=random_streets(1), heldout=heldout, seed=seed)
    origin, destination = np.divmod(np.arange(40_000), 200)
    split = task.split_of(origin, destination)
    shares = np.bincount(split, minlength=3) / len(split)
    np.testing.assert_allclose(shares, [1 - 2 * heldout, heldout, heldout], atol=0.015)
    other = Taxi(streets=task.streets, heldout=heldout, seed=(seed + 1) % 2**32)
    assert (other.split_of(origin, destination) != split).mean() > 0.01
    mirrored = task.split_of(destination, origin)
    assert (mirrored != split).mean() > 0.01


def length_of(task, tokens, metres):
    node, total = tokens[0], 0.0
    for token in tokens[2:]:
        turn = token - task.map.num_nodes
        if turn == 8:
            return total
        total += metres[node, turn]
        node = task.map.neighbour[node, turn]
    raise AssertionError("no end")


def test_shortest_and_noisy_paths_against_networkx(heliopolis):
    streets = heliopolis.crop(700)
    plain = nx.DiGraph()
    for u, k in zip(*np.nonzero(streets.exits), strict=True):
        plain.add_edge(int(u), int(streets.neighbour[u, k]), length=streets.length[u, k])
    ratio = {}
    for generator in ("shortest", "noisy"):
        task = Taxi(streets=streets, generator=generator)
        tokens = task.sample("train", 0, 60).tokens
        best = [
            nx.dijkstra_path_length(plain, *map(int, row[:2]), weight="length") for row in tokens
        ]
        ratio[generator] = [length_of(task, row, streets.length) for row in tokens] / np.array(best)
    np.testing.assert_allclose(ratio["shortest"], 1)
    assert ratio["noisy"].min() > 1 - 1e-9
    assert 1 < ratio["noisy"].max() < 1.5
    assert ratio["noisy"].mean() < 1.05


def test_no_path_leads_from_a_place_to_itself(heliopolis):
    task = Taxi(streets=heliopolis.crop(300), generator="shortest", max_nodes=30)
    origin, destination = task.sample("train", 0, 1024).tokens[:, :2].T
    assert (origin != destination).all()


def test_noise_differs_between_walks_of_one_pair():
    graph = nx.MultiDiGraph()
    for node, (x, y) in enumerate([(0, 0), (1, 1), (1, -1), (2, 0)]):
        graph.add_node(node, x=x, y=y)
    for u, v in ((0, 1), (1, 3), (0, 2), (2, 3), (3, 2), (2, 1), (1, 0)):
        graph.add_edge(u, v, length=10.0)
    streets = StreetMap.from_graph(graph)
    for seed in range(50):
        task = Taxi(streets=streets, generator="noisy", seed=seed, heldout=0.1)
        if task.split_of([0], [3])[0] == 0:
            break
    tokens = task.sample("train", 0, 1000).tokens
    taken = tokens[(tokens[:, 0] == 0) & (tokens[:, 1] == 3), 2] - 4
    assert set(taken.tolist()) == {DIRECTIONS.index("NE"), DIRECTIONS.index("SE")}
    assert 0.3 < (taken == DIRECTIONS.index("NE")).mean() < 0.7


def test_paths_that_are_too_long_are_rejected_and_counted(heliopolis):
    streets = heliopolis.crop(700)
    long, short = (Taxi(streets=streets, generator="shortest", max_nodes=n) for n in (100, 8))
    assert (short.sample("test", 0, 500).lengths <= 10).all()
    assert short.rejection_rate("test") > long.rejection_rate("test")
    rate = Taxi(streets=streets).rejection_rate("test")
    assert rate == Taxi(streets=streets).rejection_rate("test")
    assert 0.8 < rate < 0.97  # about a tenth of random walks is the split's
    assert 0.1 < Taxi(streets=streets).rejection_rate("train") < 0.3


def test_json_round_trip(heliopolis, tmp_path):
    default = Taxi()
    cropped = Taxi(radius=500, generator="noisy", seed=3, max_nodes=np.int64(40))
    for task in (default, cropped):
        stored = json.loads(json.dumps(task.parameters()))
        again = Taxi(**stored)
        assert again == task
        assert hash(again) == hash(task)
        assert again.parameters() == task.parameters()
        assert pickle.loads(pickle.dumps(task)) == task
    assert stored["streets"] == {"source": "heliopolis", "digest": heliopolis.digest}
    assert cropped != default
    assert Taxi(streets=heliopolis) == default
    assert Taxi(seed=1) != default
    stored["streets"]["digest"] = "0" * 64
    with pytest.raises(ValueError, match="the map changed"):
        Taxi(**stored)


PINNED = {
    "default": ({}, "317f142d6d02534f", "2d5ab09cc4c03942"),
    "radius=500, max_nodes=20": (
        {"radius": 500, "max_nodes": 20},
        "3a9afc42d9a4752e",
        "9e9b7e4641875618",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_the_benchmark_is_a_constant(name):
    parameters, train, test = PINNED[name]
    task = Taxi(**parameters)
    tokens = task.sample("train", 0, 256).tokens
    assert hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()[:16] == train
    prompts = task.prompts("test", 0, 256)
    assert hashlib.sha256(prompts.astype("<i4").tobytes()).hexdigest()[:16] == test


def test_the_map_is_a_constant(heliopolis):
    assert heliopolis.digest.startswith("34fcd54c")


def test_text_and_vocabulary():
    task = Taxi(radius=400)
    n = task.map.num_nodes
    assert len(task.vocab) == n + 10
    assert task.vocab.tokens[n:] == (*DIRECTIONS, "end", "pad")
    assert (task.vocab.end, task.vocab.pad) == (n + 8, n + 9)
    row = task.vocab.encode(["17", "42", "N", "NE", "E", "end", "pad"])
    assert task.text(row) == "17 -> 42: N NE E end"
    assert task.text(row[:2]) == "17 -> 42:"
    assert (task.max_length, task.max_new_tokens) == (102, 100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            (name, bad)
            for name in ("min_nodes", "max_nodes", "max_path", "max_new", "seed")
            for bad in (-1, 2.0, True, None, "3", float("nan"), 2**32)
        ],
        *[("min_nodes", 1), ("max_nodes", 2), ("max_path", 1), ("max_new", 0)],
        *[("heldout", bad) for bad in (0, 0.5, 1, -0.1, float("nan"), "0.1", None, True)],
        *[("radius", bad) for bad in (0, -1.0, float("nan"), float("inf"), True, "500")],
        *[("generator", bad) for bad in ("Random", None, 1, ["random"])],
        *[("streets", bad) for bad in (None, 5, "", {}, [])],
    ],
)
def test_every_field_is_validated(field, value):
    with pytest.raises(ValueError, match=field) as caught:
        Taxi(**{field: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_radius_that_leaves_no_map(heliopolis):
    with pytest.raises(ValueError, match=r"falls apart|no intersection"):
        Taxi(streets=heliopolis, radius=1)


def test_arguments_are_validated():
    task = Taxi(radius=400)
    for bad in ((-1, 3), (0, -3), (0.0, 3), (0, None), (True, 1)):
        with pytest.raises(ValueError, match="expected a whole number"):
            task.sample("train", *bad)
        with pytest.raises(ValueError, match="expected a whole number"):
            task.prompts("train", *bad)
    for call in (task.sample, task.prompts):
        with pytest.raises(ValueError, match="split = 'dev'"):
            call("dev", 0, 1)
    world, n = task.world(), task.map.num_nodes
    for prompts in ([[0, n]], [[-1, 0]], [[0.0, 1.0]], [0, 1], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="prompt"):
            world.start(np.array(prompts))
    with pytest.raises(ValueError, match="length"):
        world.histories(world.start(np.array([[0, 1]])), -1, np.random.default_rng(0))


def test_a_map_too_small_for_its_splits():
    graph = nx.MultiDiGraph()
    graph.add_node(0, x=0, y=0)
    graph.add_node(1, x=1, y=0)
    nx.add_cycle(graph, [0, 1], length=1.0)
    task = Taxi(streets=StreetMap.from_graph(graph), heldout=0.01)
    assert (task.split_of([0, 0, 1, 1], [0, 1, 0, 1]) == 0).all()
    with pytest.raises(ValueError, match="too few pairs"):
        task.sample("test", 0, 1)
    with pytest.raises(ValueError, match="no test pair"):
        task.prompts("test", 0, 1)


def test_light_to_import_and_to_use(tmp_path):
    code = """if True:
        import sys, time
        import numpy
        start = time.process_time()
        from nextlat_bench.tasks.taxi import Taxi
        seconds = time.process_time() - start
        task = Taxi()
        task.sample("train", 0, 10), Taxi(radius=500).prompts("test", 0, 10)
        heavy = "torch pandas matplotlib osmnx networkx sklearn".split()
        print(f"{seconds:.3f}", *[name for name in heavy if name in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    seconds, *heavy = result.stdout.split()
    print(f"importing taxi takes {seconds} s beyond numpy")
    assert heavy == []
    assert float(seconds) < 1.0


def test_the_drawn_example():
    failures, tests = doctest.testmod(taxi)
    assert tests >= 4
    assert failures == 0


def test_noisy_weights_are_gamma_of_their_metres() -> None:
    """Of two ways, 20 and 24 m, the first is taken as often as Beta(20, 24) is under 1/2."""
    graph = nx.MultiDiGraph()
    for node, (x, y) in enumerate([(0, 0), (1, 1), (1, -1), (2, 0)]):
        graph.add_node(node, x=x, y=y)
    for u, v, metres in ((0, 1, 10.0), (1, 3, 10.0), (0, 2, 12.0), (2, 3, 12.0), (3, 0, 1.0)):
        graph.add_edge(u, v, length=metres)
    streets = StreetMap.from_graph(graph)
    tasks = (Taxi(streets=streets, generator="noisy", seed=seed) for seed in range(50))
    task = next(task for task in tasks if task.split_of([0], [3])[0] == 0)
    tokens = task.sample("train", 0, 6000).tokens
    taken = tokens[(tokens[:, 0] == 0) & (tokens[:, 1] == 3), 2] - 4
    share, expected = (taken == DIRECTIONS.index("NE")).mean(), betainc(20, 24, 0.5)
    error = (expected * (1 - expected) / len(taken)) ** 0.5
    assert share == pytest.approx(expected, abs=4 * error)
    assert error < 0.025
