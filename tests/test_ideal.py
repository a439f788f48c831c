"""The ideal learner is the distribution of the training walks: enumerated, and counted."""

from collections import defaultdict

import numpy as np
import pytest
from hand_maps import E, N, S, W, map_of, task_on

from nextlat_bench import ideal
from nextlat_bench.ideal import IdealLearner, arrivals, transitions
from nextlat_bench.known import known_subject
from nextlat_bench.tasks._streets import DIRECTIONS
from nextlat_bench.tasks.path_star import PathStar
from nextlat_bench.tasks.taxi import Taxi

# a square with a one-way spur: who drives to node 4 stays there
PLACES = [(0, 0), (100, 0), (100, 100), (0, 100), (200, 0)]
SPUR = {(0, E): 1, (1, N): 2, (2, W): 3, (3, S): 0, (1, W): 0, (2, S): 1, (1, E): 4}


def on_the_spur(**parameters):
    """Its pairs are few: the seed is one whose splits all have some."""
    return Taxi(streets=map_of(PLACES, SPUR), heldout=0.2, seed=1, max_path=9, **parameters)


def walks(task):
    """Every walk and its probability: (origin, destination, turns by name) -> p."""
    out = defaultdict(float)
    neighbour, lengths = task.map.neighbour, range(task.min_nodes, task.max_nodes + 1)

    def drive(origin, node, turns, left, p):
        exits = [turn for turn in range(8) if neighbour[node, turn] >= 0]
        if left == 0 or not exits:
            out[origin, node, turns] += p
            return
        for turn in exits:
            there = int(neighbour[node, turn])
            drive(origin, there, (*turns, DIRECTIONS[turn]), left - 1, p / len(exits))

    for origin in range(task.map.num_nodes):
        for num_nodes in lengths:
            drive(origin, origin, (), num_nodes - 1, 1 / task.map.num_nodes / len(lengths))
    return out


def continuations(task):
    """(origin, destination, turns so far) -> the probability of each next token, by counting."""
    out = defaultdict(lambda: np.zeros(len(task.vocab)))
    for (origin, destination, turns), p in walks(task).items():
        for t, token in enumerate((*turns, "end")):
            out[origin, destination, turns[:t]][task.vocab.ids[token]] += p
    return {context: p / p.sum() for context, p in out.items()}


def told(task, context):
    origin, destination, turns = context
    tokens = np.array([[origin, destination, *task.vocab.encode(list(turns))]])
    return np.exp(known_subject("ideal_learner", task).start(tokens).log_probs[0])


TASKS = [
    task_on(0, min_nodes=2, max_nodes=5),
    task_on(3, min_nodes=4, max_nodes=6),
    task_on(5, min_nodes=4, max_nodes=4),
    on_the_spur(min_nodes=3, max_nodes=7),
]


@pytest.mark.parametrize("task", TASKS, ids=["two", "four", "one length", "dead end"])
def test_all_walks_enumerated(task):
    assert sum(walks(task).values()) == pytest.approx(1)
    expected = continuations(task)
    assert len(expected) > 300
    subject, by_length = known_subject("ideal_learner", task), defaultdict(list)
    for context in expected:
        by_length[len(context[2])].append(context)
    for contexts in by_length.values():
        tokens = [[o, d, *task.vocab.encode(list(turns))] for o, d, turns in contexts]
        found = np.exp(subject.start(np.array(tokens)).log_probs)
        np.testing.assert_allclose(found, [expected[c] for c in contexts], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("task", TASKS[::3], ids=["two", "dead end"])
def test_where_no_walk_begins_like_that_the_world_is_believed(task):
    """All that is legal, for as many turns as one likes."""
    seen, world = continuations(task), task.world()
    rng, unheard_of = np.random.default_rng(0), 0
    for _ in range(300):
        origin, destination = rng.integers(task.map.num_nodes, size=2)
        turns, states = [], world.start(np.array([[origin, destination]]))
        for _ in range(task.max_nodes + 2):
            legal = world.legal(states)[0]
            context = (int(origin), int(destination), tuple(turns))
            if context not in seen and legal.any():
                unheard_of += 1
                np.testing.assert_allclose(told(task, context), legal / legal.sum())
            legal[task.vocab.end] = False
            if not legal.any():
                break
            token = rng.choice(np.flatnonzero(legal))
            turns.append(task.vocab.tokens[token])
            states = world.advance(states, np.array([token]))
    assert unheard_of > 100


def test_training_walks_are_its_draws():
    """What follows, at each length of the walk so far and intersection: within 4.5 standard errors
    of what was told, and in all as far from it as chance has it."""
    task = task_on(1, min_nodes=3, max_nodes=8)
    batch = task.sample("train", 0, 40_000)
    probability = np.exp(known_subject("ideal_learner", task).log_probs(batch.tokens))
    states = task.world().start(batch.tokens[:, :2])
    scores = []
    for t in range(1, task.max_length - 1):
        scored, node = batch.targets[:, t] >= 0, task.world().node(states)
        for place in range(task.map.num_nodes):
            rows = scored & (node == place)
            told = probability[rows, t]
            found = np.bincount(batch.targets[rows, t], minlength=len(task.vocab))
            assert not found[~told.any(axis=0)].any()
            variance = (told * (1 - told)).sum(axis=0)
            apart = (found - told.sum(axis=0))[variance > 10]
            scores += (apart / np.sqrt(variance[variance > 10])).tolist()
        states = task.world().advance(states, batch.tokens[:, t + 1])
    assert len(scores) > 100
    assert np.abs(scores).max() < 4.5
    assert np.mean(np.square(scores)) == pytest.approx(1, abs=4 * np.sqrt(2 / len(scores)))


def test_arrivals_are_sums_of_powers():
    task = on_the_spur(min_nodes=3, max_nodes=6)
    step = transitions(task.map).toarray()
    np.testing.assert_allclose(step.sum(axis=1), 1)
    for destination in range(5):
        table = arrivals(transitions(task.map), destination, 3, 6)
        for n in range(1, 7):
            powers = [np.linalg.matrix_power(step, length - n) for length in range(max(n, 3), 7)]
            np.testing.assert_allclose(table[n], sum(powers)[:, destination])
        assert not table[7].any()


def test_tables_forgotten_are_made_again(monkeypatch):
    """A map of thousands: no more tables are kept than there is room for."""
    task = task_on(1, min_nodes=3, max_nodes=8)
    tokens = task.sample("test", 0, 50).tokens
    expected = known_subject("ideal_learner", task).log_probs(tokens)
    monkeypatch.setattr(ideal, "KEPT", 1)
    cramped = IdealLearner(task)
    np.testing.assert_array_equal(cramped.log_probs(tokens), expected)
    assert cramped.table.cache_info().currsize == 1
    assert len(np.unique(tokens[:, 1])) > 1


def test_as_many_tables_are_kept_as_there_is_room_for(monkeypatch):
    task = task_on(1, min_nodes=3, max_nodes=8)
    one = IdealLearner(task).table(0).nbytes
    for room, kept in ((3 * one, 3), (4 * one - 1, 3), (one - 1, 1)):
        monkeypatch.setattr(ideal, "KEPT", room)
        assert IdealLearner(task).table.cache_info().maxsize == kept


@pytest.mark.parametrize("generator", ["shortest", "noisy"])
def test_walks_that_are_not_random(generator):
    message = f"known of taxi with generator = '{generator}', but of random walks"
    with pytest.raises(ValueError, match=message):
        known_subject("ideal_learner", Taxi(radius=500, generator=generator))


def test_other_tasks():
    with pytest.raises(ValueError, match="known of the task path_star, but of taxi"):
        known_subject("ideal_learner", PathStar())
