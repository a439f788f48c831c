"""Sequence compression on subjects whose answer is known.

Where the answer is a matter of chance, its exact probability given the histories is worked out by
recursion over everything a continuation may be.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from nextlat_bench.probes._sampling import MAX_ROWS, HistoryPairs, history_pairs, room
from nextlat_bench.probes.compression import Compression
from nextlat_bench.tasks.taxi import Taxi

PROBE = Compression(num_states=200)
RELEASED = replace(PROBE, protocol="released")
SEED = 7  # as in conftest


@pytest.fixture(scope="module")
def pairs(taxi):
    """The histories that the probe draws, which is the first thing it does."""
    states = taxi.world().start(taxi.prompts("test", 0, PROBE.num_states))
    groups, _ = history_pairs(taxi, states, states, np.random.default_rng(SEED), MAX_ROWS)
    return groups


def survival(distribution, follow, cutoff):
    """-> a function of two contexts and a length: the probability that a continuation sampled in
    the first, without tokens of p <= cutoff, has p > 0.01 in the second at every token.

    `distribution(context)` gives token -> p, `follow(context, token)` the next context.
    """

    @cache
    def alive(first, second, length):
        if length == 0 or (first == second and cutoff >= 0.01):
            return 1.0
        kept = {x: p for x, p in distribution(first).items() if p > cutoff}
        return sum(
            p * (x == "end" or alive(follow(first, x), follow(second, x), length - 1))
            for x, p in kept.items()
            if distribution(second).get(x, 0) > 0.01
        ) / sum(kept.values())

    return alive


@pytest.fixture(scope="module")
def passing(taxi, pairs, followers, streets, wrong_streets):
    """(subject, probe) -> of each trial, the exact probability that the state scores 1."""

    @cache
    def habits(context):
        counts = followers.get(context, followers[None])
        return {token: n / counts.total() for token, n in counts.items()}

    @cache
    def beliefs(context):
        node, destination = context
        if node is None:
            return {"end": 1.0}
        tokens = [*wrong_streets[node], *(["end"] if node == destination else [])]
        return dict.fromkeys(tokens, 1 / len(tokens))

    def drive(context, token):
        node, destination = context
        return (None if node is None else wrong_streets[node].get(token)), destination

    def arrive(tokens):
        context = int(tokens[0]), int(tokens[1])
        for token in tokens[2:]:
            context = drive(context, token)
        return context

    @cache
    def lengths(num_nodes, node, destination):
        """Of a walk's 3 to 40 nodes: how many, in expectation, let it stop there; this is one."""
        if num_nodes > taxi.max_nodes:
            return 0
        there = [lengths(num_nodes + 1, v, destination) for v in streets[node].values()]
        stops = node == destination and num_nodes >= taxi.min_nodes
        return stops + sum(there) / len(there)

    @cache
    def chances(context):
        num_nodes, node, destination = context
        exits = streets[node]
        ways = {x: lengths(num_nodes + 1, v, destination) / len(exits) for x, v in exits.items()}
        ways["end"] = node == destination and num_nodes >= taxi.min_nodes
        return {token: p / sum(ways.values()) for token, p in ways.items() if p}

    def walk_on(context, token):
        num_nodes, node, destination = context
        return num_nodes + 1, streets[node][token], destination

    def walk(tokens):
        context = 1, int(tokens[0]), int(tokens[1])
        for token in tokens[2:]:
            context = walk_on(context, token)
        return context

    models = {
        "forgetful": (habits, lambda context, x: (context[1], x), lambda t: tuple(t[-2:])),
        "wrong_map": (beliefs, drive, arrive),
        "ideal_learner": (chances, walk_on, walk),
    }

    @cache
    def probabilities(name, probe):
        distribution, follow, context = models[name]
        released = probe.protocol == "released"
        alive = survival(distribution, follow, cutoff=0.0 if released else probe.epsilon)
        out = []
        for group in pairs:
            length = room(taxi, group.first)
            for a, b in zip(group.first, group.first if released else group.second, strict=True):
                contexts = context(taxi.vocab.decode(a)), context(taxi.vocab.decode(b))
                out.append(min(alive(*contexts, length), 1.0) ** probe.num_continuations)
        return np.array(out)

    return probabilities


# (precision, released). None: chance, worked out in `passing`. history_hash: at a fork of c turns
# the two histories forbid different ones with probability 1 - 1/c, and then the one forbidden after
# the second is sampled with 1/(c - 1): refused with 1/c >= 1/5 at every fork, so that one
# continuation of ten forks survives with (4/5)^10 = 0.11 at most, and thirty practically never.
# noisy_state, released: of 30 continuations of some 20 tokens, each token leaks with 2.4%, and
# none of them does with 0.976^600 < 1e-6. ideal_learner: the two histories are equally long, and so
# the same is left to both; but at some places a turn is taken once in more than a hundred times.
TABLE = {
    "oracle": (1, 1),
    "shortest_path_oracle": (1, 1),
    "uniform": (0, 0),
    "accept_everything": (1, 1),
    "always_end": (1, 1),
    "legal_walker": (1, 1),
    "forgetful": (None, None),
    "history_hash": (0, 1),
    "noisy_state": (1, 0),
    "wrong_map": (None, 1),
    "ideal_learner": (1, None),
}


def test_known_answers(measured, known, passing):
    assert set(TABLE) == set(known)
    for name, answers in TABLE.items():
        for probe, answer in zip((PROBE, RELEASED), answers, strict=True):
            row = measured(probe, name)["precision", ""]
            if answer is None:
                p = passing(name, probe)
                assert len(p) == row.n
                slack = 4 * np.sqrt((p * (1 - p)).sum()) / len(p) + 1e-9
                assert row.value == pytest.approx(p.mean(), abs=slack), (name, probe.protocol)
            else:
                assert row.value == answer, (name, probe.protocol)
            assert row.n + row.n_skipped == PROBE.num_states
            assert row.n > 0.9 * PROBE.num_states


def test_the_known_answers_by_chance_discriminate(passing):
    """0 and 1 would be no test of the recursion."""
    for name, probe in (("forgetful", PROBE), ("wrong_map", PROBE), ("forgetful", RELEASED)):
        assert 0.01 < passing(name, probe).mean() < 0.95


def test_histories_differ_and_lead_to_the_state(taxi, streets, pairs):
    lengths, limit = [], taxi.max_nodes
    hops = taxi.map.hops()
    for group in pairs:
        assert isinstance(group, HistoryPairs)
        k = group.first.shape[1] - 2
        assert group.second.shape[1] - 2 == k
        assert (group.first != group.second).any(axis=1).all()
        for history, state in zip(
            (*group.first, *group.second), (*group.first_state, *group.second_state), strict=True
        ):
            origin, destination, *turns = taxi.vocab.decode(history)
            node = int(origin)
            for turn in turns:
                node = streets[node][turn]
            assert taxi.world().start(np.array([[node, int(destination)]]))[0] == state
            assert 1 <= k <= limit - hops[node, int(destination)] - 4
        lengths += [k] * len(group.first)
    assert len(set(lengths)) > 15


def test_history_lengths_are_uniform(taxi):
    """All at one distance: k uniform in 1..(limit - shortest - 4)."""
    prompts = taxi.prompts("test", 0, 10**5)
    states = taxi.world().start(prompts)
    near = states[taxi.world().distance(states) == 6]  # five turns and `end`
    groups, why = history_pairs(taxi, near, near, np.random.default_rng(0), MAX_ROWS)
    largest = 40 - 5 - 4
    counts = np.zeros(largest + 1)
    for group in groups:
        counts[group.first.shape[1] - 2] += len(group.first)
    expected = len(near) / largest
    # short histories may have no partner; those are counted, not lost
    assert counts.sum() + why.total() == len(near)
    assert counts[0] == 0
    chi_square = ((counts[4:] - expected) ** 2 / expected).sum()
    assert chi_square < largest - 3 + 4 * np.sqrt(2 * largest)


def test_skips_say_why(taxi, known):
    """With room for ten turns, far states allow no history, and one-way streets no second one."""
    cramped = replace(taxi, max_nodes=14)
    (row,) = PROBE.measure(known["oracle"], cramped, np.random.default_rng(0))
    assert row.n + row.n_skipped == PROBE.num_states
    assert row.value == 1
    reasons = dict(part.split(" ", 1)[::-1] for part in row.skipped_because.split("; "))
    assert set(reasons) == {
        "too far from the end for any history",
        "no second history found",
    }
    assert sum(map(int, reasons.values())) == row.n_skipped
    hops = taxi.map.hops()[tuple(taxi.prompts("test", 0, PROBE.num_states).T)]
    assert int(reasons["too far from the end for any history"]) == (hops > 14 - 5).sum()


def test_a_continuation_is_no_longer_than_the_task_allows(taxi: Taxi) -> None:
    """Nor, with its history, than a sequence."""
    histories = np.zeros((3, 12), dtype=np.int64)
    assert room(taxi, histories) == 30  # of 42 tokens
    assert room(replace(taxi, max_new=7), histories) == 7


def test_states_from_which_the_end_cannot_be_reached_are_left_out(tmp_path: Path) -> None:
    """A ring of thirty and a dead end: one state of each pair is alive."""
    file = tmp_path / "streets.csv"
    table = [f"{i},{d},{(i + s) % 30}" for i in range(30) for d, s in (("N", 1), ("S", 29))]
    file.write_text("\n".join(["node,direction,neighbour", *table, "0,E,30"]))
    task = Taxi(streets=str(file), max_nodes=30)
    world = task.world()
    alive, lost = (world.start(np.array([[node, 5]] * 20)) for node in (1, 30))
    assert (world.distance(lost) == -1).all()
    for pair in ((alive, lost), (lost, alive)):
        groups, why = history_pairs(task, *pair, np.random.default_rng(0), MAX_ROWS)
        assert groups == []
        assert why == Counter({"too far from the end for any history": 20})


def test_states_that_the_split_lacks_are_counted(few, known):
    probe = Compression(num_states=40, num_continuations=2)
    for row in probe.measure(known["oracle"], few, np.random.default_rng(0)):
        assert row.n + row.n_skipped == 40
        assert "10 beyond the split" in row.skipped_because
