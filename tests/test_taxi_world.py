"""Taxi's walks and its world against a slow walker, written apart from them in words."""

from collections import deque

import numpy as np
import pytest
from hand_maps import DIRECTIONS, task_on
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks.taxi import StreetMap, Taxi

GENERATORS = ("random", "shortest", "noisy")


@pytest.fixture(scope="module")
def heliopolis():
    return StreetMap.load("heliopolis")


class SlowWorld:
    """The automaton in words: a dictionary of streets and a walker with a destination."""

    def __init__(self, streets):
        self.streets = {
            (u, DIRECTIONS[k]): v
            for u, row in enumerate(streets.neighbour.tolist())
            for k, v in enumerate(row)
            if v != -1
        }

    def walk(self, tokens):
        """The walker's (node, destination), or "end" or "dead", after the words of a sequence."""
        node, destination, *words = tokens
        state = (int(node), int(destination))
        for word in words:
            state = self.step(state, word)
        return state

    def step(self, state, word):
        if state == "end":
            return "end" if word == "pad" else "dead"
        if state == "dead":
            return "dead"
        node, destination = state
        if word == "end":
            return "end" if node == destination else "dead"
        return (self.streets[node, word], destination) if (node, word) in self.streets else "dead"

    def distances_to(self, destination):
        into = {}
        for (u, _), v in self.streets.items():
            into.setdefault(v, []).append(u)
        distance, queue = {destination: 0}, deque([destination])
        while queue:
            node = queue.popleft()
            for before in into.get(node, ()):
                if before not in distance:
                    distance[before] = distance[node] + 1
                    queue.append(before)
        return distance


def words_of(task, tokens):
    return [task.vocab.tokens[token] for token in tokens]


def states_of(world, slow_states):
    """The world's states of ((node, destination) | "end" | "dead") values."""
    num_nodes = world.streets.num_nodes
    states = []
    for state in slow_states:
        if isinstance(state, tuple):
            states.append(world.start(np.array([state]))[0])
        else:
            end = world.advance(world.start(np.array([[0, 0]])), np.array([num_nodes + 8]))
            states.append(end[0] if state == "end" else world.advance(end, np.array([0]))[0])
    return np.array(states)


@given(st.integers(0, 10**6), st.sampled_from(GENERATORS), st.sampled_from(SPLITS))
@settings(max_examples=25)
def test_samples_are_legal_walks_of_their_split(seed, generator, split):
    task = task_on(seed, generator=generator, seed=seed)
    slow = SlowWorld(task.map)
    batch = task.sample(split, 0, 40)
    assert batch.tokens.shape == (40, task.max_length)
    assert batch.tokens.dtype == np.int32
    pairs = batch.tokens[:, :2]
    assert (task.split_of(*pairs.T) == SPLITS.index(split)).all()
    for tokens, targets, length in zip(batch.tokens, batch.targets, batch.lengths, strict=True):
        words = words_of(task, tokens)
        assert slow.walk(words) == "end"
        num_nodes = words.index("end") - 1
        least = task.min_nodes if generator == "random" else 2
        assert least <= num_nodes <= task.max_nodes
        assert length == words.index("end") + 1
        assert set(words[length:]) <= {"pad"}
        expected = np.full(task.max_length, -1)
        expected[1 : length - 1] = tokens[2:length]
        np.testing.assert_array_equal(targets, expected)
    assert task.check(pairs, batch.tokens[:, 2:]).all()


def test_walks_on_the_embedded_map(heliopolis):
    task = Taxi(streets=heliopolis)
    slow = SlowWorld(heliopolis)
    batch = task.sample("train", 0, 2000)
    for tokens in batch.tokens[:300]:
        assert slow.walk(words_of(task, tokens)) == "end"
    nodes = batch.lengths - 2
    counts = np.bincount(nodes, minlength=101)[3:]
    assert (nodes.min(), nodes.max()) == (3, 100)
    assert counts.min() > 0
    assert abs(nodes.mean() - 51.5) < 4 * np.sqrt(98**2 / 12 / 2000)
    assert len(np.unique(batch.tokens[:, 0])) > 1500


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_are_all_the_near_pairs_of_the_split(split):
    task = task_on(11, max_path=4)
    slow = SlowWorld(task.map)
    expected = {
        (origin, destination)
        for destination in range(task.map.num_nodes)
        for origin, turns in slow.distances_to(destination).items()
        if 0 < turns < 4 and SPLITS[task.split_of([origin], [destination])[0]] == split
    }
    prompts = task.prompts(split, 0, 10**6)
    assert prompts.dtype == np.int32
    assert len(prompts) == len(expected)
    assert set(map(tuple, prompts.tolist())) == expected
    np.testing.assert_array_equal(task.prompts(split, 2, 3), prompts[2:5])
    assert task.prompts(split, len(prompts), 5).shape == (0, 2)
    assert not (np.diff(prompts[:, 0]) >= 0).all(), "shuffled"


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_world_equals_the_slow_one(seed):
    task = task_on(seed)
    world, slow = task.world(), SlowWorld(task.map)
    nodes = range(task.map.num_nodes)
    slow_states = [*((u, v) for u in nodes for v in nodes), "end", "dead"]
    states = states_of(world, slow_states)
    legal = world.legal(states)
    assert legal.shape == (len(states), len(task.vocab))
    for token in range(-2, len(task.vocab) + 3):
        word = task.vocab.tokens[token] if 0 <= token < len(task.vocab) else "?"
        got = world.advance(states, np.full(len(states), token))
        expected = [slow.step(state, word) for state in slow_states]
        np.testing.assert_array_equal(got, states_of(world, expected))
        if word != "?":
            alive = [a != "dead" and b != "end" for a, b in zip(expected, slow_states, strict=True)]
            np.testing.assert_array_equal(legal[:, token], alive)
    np.testing.assert_array_equal(world.at_goal(states), [s == "end" for s in slow_states])
    assert world.node(states).tolist() == [*(u for u in nodes for _ in nodes), -1, -1]
    assert world.destination(states).tolist() == [*(v for _ in nodes for v in nodes), -1, -1]
    distance = {v: slow.distances_to(v) for v in nodes}
    expected = [distance[s[1]][s[0]] + 1 if isinstance(s, tuple) else -1 for s in slow_states]
    expected[-2] = 0
    np.testing.assert_array_equal(world.distance(states), expected)


@given(st.integers(0, 10**6), st.integers(0, 12))
@settings(max_examples=25)
def test_histories_end_in_the_state(seed, length):
    task = task_on(seed)
    world, slow = task.world(), SlowWorld(task.map)
    rng = np.random.default_rng(seed)
    prompts = rng.integers(task.map.num_nodes, size=(50, 2))
    states = np.concatenate([world.start(prompts), states_of(world, ["end", "dead"])])
    rows = world.histories(states, length, rng)
    assert rows.shape == (52, 2 + length)
    for row, prompt in zip(rows[:50], prompts.tolist(), strict=True):
        assert slow.walk(words_of(task, row)) == tuple(prompt)
    assert (rows[50:] == task.vocab.pad).all()
    again = world.histories(np.repeat(states[:1], 200), length, rng)
    streets = task.map
    steps = np.zeros((streets.num_nodes, streets.num_nodes))
    node, turn = np.nonzero(streets.exits)
    np.add.at(steps, (node, streets.neighbour[node, turn]), 1)
    walks = np.linalg.matrix_power(steps, length)[:, prompts[0, 0]].sum()
    assert len(np.unique(again, axis=0)) >= min(20, walks / 2)  # few lead to some intersections


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_check_equals_the_slow_walker(seed):
    task = task_on(seed)
    slow = SlowWorld(task.map)
    rng = np.random.default_rng(seed)
    right = task.sample("train", 0, 60).tokens
    wrong = right.copy()
    rows, columns = np.arange(60), rng.integers(2, task.max_length, size=60)
    wrong[rows, columns] = rng.integers(len(task.vocab), size=60)
    short = right.copy()
    short[rows, np.argmax(right == task.vocab.end, axis=1)] = task.vocab.pad
    for tokens in (right, wrong, short):
        expected = [slow.walk(words_of(task, row)) == "end" for row in tokens]
        np.testing.assert_array_equal(task.check(tokens[:, :2], tokens[:, 2:]), expected)
    assert task.check(right[:, :2], right[:, 2:]).all()
    assert not task.check(short[:, :2], short[:, 2:]).any()
    assert not task.check(right[:, :2], right[:, 2:2]).any()


def test_dead_ends_and_one_way_traps(tmp_path):
    path = tmp_path / "map.csv"
    rows = ["node,direction,neighbour", "0,N,1", "1,S,0", "1,N,2", "2,E,3", "0,E,0"]
    path.write_text("\n".join(rows))
    task = Taxi(streets=str(path), min_nodes=20, max_nodes=30, heldout=0.3)
    for split in SPLITS:
        tokens = task.sample(split, 0, 500).tokens
        assert task.check(tokens[:, :2], tokens[:, 2:]).all()
    batch = task.sample("train", 0, 500)
    assert (batch.tokens[:, 1] == 3).any(), "some walks reach the dead end"
    for tokens in batch.tokens:
        words = [word for word in words_of(task, tokens) if word != "pad"]
        assert words[1] == "3" or len(words) >= 22, "only the dead end stops a walk early"
    assert (batch.tokens[batch.tokens[:, 0] == 3, 1] == 3).all()
    world = task.world()
    states = world.start(np.array([[3, 0], [2, 0], [3, 3], [0, 3], [0, 0]]))
    assert world.distance(states).tolist() == [-1, -1, 1, 4, 1]
    assert world.legal(states[:1]).sum() == 0
    rows = world.histories(world.start(np.array([[3, 0]] * 50)), 9, np.random.default_rng(0))
    assert (world.node(world.start(rows[:, :2])) >= 0).all()
    path.write_text("node,direction,neighbour\n0,N,1\n1,N,2\n")
    world = Taxi(streets=str(path)).world()
    states = world.start(np.array([[2, 2], [1, 2], [0, 2]]))
    rows = world.histories(states, 1, np.random.default_rng(0))
    assert rows.tolist() == [[1, 2, 3], [0, 2, 3], [12, 12, 12]]
    with pytest.raises(ValueError, match=r"Taxi.generator.*no lengths"):
        Taxi(streets=str(path), generator="shortest")
