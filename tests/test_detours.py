"""Detours on subjects whose answer is known, driven one street at a time."""

import re
from dataclasses import fields
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hand_maps import E, W, map_of
from scipy.stats import chisquare

from nextlat_bench.known import known_subject
from nextlat_bench.presets import taxi as taxi_preset
from nextlat_bench.probes import detours
from nextlat_bench.probes._sampling import top1
from nextlat_bench.probes.detours import Detours, drive, feasible_turns
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.tasks.taxi import Taxi

PROBE = Detours(num_trials=300, probabilities=(0, 0.1, 0.75))
CONDITIONS = {p: f"p={p:g},replace=random" for p in PROBE.probabilities}


@pytest.fixture(scope="module")
def turns_to(streets):
    """turns_to[u][v]: the fewest turns from u to v."""
    graph = nx.DiGraph([(u, v) for u, exits in enumerate(streets) for v in exits.values()])
    return dict(nx.all_pairs_shortest_path_length(graph))


@pytest.fixture(scope="module")
def slow(taxi, streets, turns_to):
    """(subject, trials, p, choose, rng) -> of each trial its tokens, legal, reached.

    `choose(turns, probabilities)` picks the detour among the feasible turns.
    """

    def run(subject, num_trials, p, choose, rng):
        for prompt in taxi.prompts("test", 0, num_trials):
            session, tokens = subject.start(prompt[None]), []
            node, destination = prompt.tolist()
            legal, reached = True, False
            for left in range(taxi.max_new_tokens - 1, -1, -1):
                token = taxi.vocab.tokens[session.log_probs[0].argmax()]
                feasible = [
                    turn
                    for turn, v in streets[node].items()
                    if turn != token and turns_to[v][destination] + 1 <= left
                ]
                if rng.random() < p and node != destination and feasible:
                    ids = taxi.vocab.encode(feasible)
                    token = choose(feasible, session.log_probs[0, ids])
                tokens.append(token)
                legal = token in (*streets[node], "end")
                reached = token == "end" and node == destination
                if not legal or token == "end":
                    break
                node = streets[node][token]
                session.advance(taxi.vocab.encode([token]))
            yield tokens, legal, reached

    return run


# (legal, reached) at every p; "slow": as the reference. Greedy ties go nearer to the goal where a
# subject knows the map, and a detour leaves budget enough; else to the lowest id, turns before
# `end`: the legal walker never arrives (and never is `end` forced). uniform says
# the name of an intersection: it is illegal as soon as it has its way once in forty steps.
# ideal_learner: to it, too, a walk of forty steps is one that arrives.
TABLE = {
    "oracle": (1, 1),
    "shortest_path_oracle": (1, 1),
    "uniform": (0, 0),
    "accept_everything": "slow",
    "always_end": "slow",
    "legal_walker": (1, 0),
    "forgetful": "slow",
    "history_hash": "slow",
    "noisy_state": (1, 1),
    "wrong_map": "slow",
    "ideal_learner": (1, 1),
}


@pytest.mark.parametrize("name", TABLE)
def test_known_answers(known, measured, slow, name):
    rows = measured(PROBE, name)
    assert len(rows) == 2 * len(CONDITIONS)
    rng = np.random.default_rng(1)
    for p, condition in CONDITIONS.items():
        row = {metric: rows[metric, condition] for metric in ("legal", "reached")}
        for each in row.values():
            assert (each.n, each.n_skipped) == (PROBE.num_trials, 0)
        if TABLE[name] != "slow":
            assert (row["legal"].value, row["reached"].value) == TABLE[name]
            continue
        trials = list(
            slow(known[name], PROBE.num_trials, p, lambda turns, _: rng.choice(turns), rng)
        )
        for metric, column in (("legal", 1), ("reached", 2)):
            rate = np.mean([trial[column] for trial in trials])
            # two samples of one rate (without chance at p = 0): 4 SE, and 4 trials for rare events
            slack = 4 * np.sqrt(2 * rate * (1 - rate) / PROBE.num_trials) + 4 / PROBE.num_trials
            assert row[metric].value == pytest.approx(rate, abs=slack if p else 1e-12), metric


def test_the_table_is_complete(known):
    assert set(TABLE) == set(known)


def test_without_detours_it_is_the_trajectories_probe(known, measured):
    trajectories = Trajectories(num_trials=PROBE.num_trials)
    for name in known:
        for metric in ("legal", "reached"):
            plain = measured(trajectories, name)[metric, ""]
            assert measured(PROBE, name)[metric, CONDITIONS[0]].value == plain.value


@pytest.mark.parametrize("replacement", ["least_likely", "second_most_likely"])
@pytest.mark.parametrize("name", ["forgetful", "history_hash", "noisy_state", "wrong_map"])
def test_detours_by_the_subjects_own_probabilities(taxi, known, slow, name, replacement):
    """p = 1 leaves nothing to chance: the same tokens, one by one."""
    sign = {"least_likely": -1, "second_most_likely": 1}[replacement]

    def choose(turns, log_probs):
        return turns[int(np.argmax(sign * log_probs))]

    prompts = taxi.prompts("test", 0, 40)
    rng = np.random.default_rng(0)
    completions = drive(known[name], taxi, prompts, 1.0, replacement, rng)
    expected = [tokens for tokens, *_ in slow(known[name], 40, 1.0, choose, rng)]
    assert [taxi.vocab.decode(tokens) for tokens in completions] == expected


def test_random_detours_are_uniform(taxi, known, streets, turns_to):
    """Of four feasible turns, each of the three that the subject did not choose, equally often."""
    node = next(u for u, exits in enumerate(streets) if len(exits) == 4)
    destination = max(turns_to[node], key=turns_to[node].get)
    assert turns_to[node][destination] < 35
    prompts = np.tile([[node, destination]], (3000, 1))
    rng = np.random.default_rng(0)
    first = drive(known["oracle"], taxi, prompts, 0.75, "random", rng)[:, 0]
    counts = [int((first == taxi.vocab.ids[turn]).sum()) for turn in streets[node]]
    assert sum(counts) == 3000
    assert chisquare(counts).pvalue > 1e-3  # 1/4 stays with the subject's own, 3 x 1/4 detours


def test_feasible_turns_by_the_map(taxi, streets, turns_to):
    world, end = taxi.world(), taxi.vocab.end
    nodes = np.arange(taxi.map.num_nodes)
    for destination in (0, 77):
        states = world.start(np.column_stack((nodes, np.full(len(nodes), destination))))
        for remaining in (1, 2, 5, 9, 39):
            feasible = feasible_turns(world, states, end, remaining)
            for node in nodes.tolist():
                expected = {
                    turn
                    for turn, v in streets[node].items()
                    if node != destination and turns_to[v][destination] + 1 <= remaining
                }
                assert set(np.array(taxi.vocab.tokens)[feasible[node]]) == expected


def test_no_detour_leads_to_where_the_goal_is_out_of_reach():
    """The street from 1 to 2 is one-way, and no other leads on."""
    streets = map_of([(0, 0), (100, 0), (200, 0)], {(0, E): 1, (1, W): 0, (1, E): 2})
    task = Taxi(streets=streets)
    world, ids = task.world(), task.vocab.ids
    states = world.start(np.array([[1, 0]]))
    assert np.flatnonzero(world.legal(states)[0]).tolist() == sorted([ids["E"], ids["W"]])
    feasible = feasible_turns(world, states, task.vocab.end, 30)
    assert np.flatnonzero(feasible[0]).tolist() == [ids["W"]]


def test_conditions_of_all_kinds(taxi, known):
    probe = Detours(num_trials=20, probabilities=[0.5], replacements=["least_likely", "random"])
    assert probe == Detours(
        num_trials=20, probabilities=(0.5,), replacements=("least_likely", "random")
    )
    rows = list(probe.measure(known["shortest_path_oracle"], taxi, np.random.default_rng(0)))
    conditions = ["p=0.5,replace=least_likely", "p=0.5,replace=random"]
    assert [row.condition for row in rows] == [c for c in conditions for _ in range(2)]
    assert all(row.value == 1 for row in rows)


def test_trips_that_the_split_lacks_are_counted(few, known):
    probe = Detours(num_trials=40, probabilities=(0.5,))
    for row in probe.measure(known["oracle"], few, np.random.default_rng(0)):
        assert (row.n, row.n_skipped, row.skipped_because) == (30, 10, "10 beyond the split")


class OnePair(Taxi):
    """Every trip has the same two ends."""

    def prompts(self, split, start, n):
        return np.repeat(super().prompts(split, start, 1), n, axis=0)


def test_trips_have_detours_of_their_own_however_many_are_driven_at_once(taxi, known, monkeypatch):
    """Without a detour all end alike; with some, not."""
    monkeypatch.setattr(detours, "MAX_ROWS", 1)
    task = OnePair(**{field.name: getattr(taxi, field.name) for field in fields(taxi)})
    probe = Detours(num_trials=20, probabilities=(0, 0.5))
    rows = list(probe.measure(known["wrong_map"], task, np.random.default_rng(0)))
    legal = [row.value for row in rows if row.metric == "legal"]
    assert {row.n for row in rows} == {20}
    assert legal[0] in (0, 1)
    assert 0 < legal[1] < 1


def test_the_guide_tells_how_much_of_a_walk_is_the_subjects():
    """A detour is never the likeliest token: what is, was the subject's own choice."""
    task = taxi_preset.run("gpt", "laptop", 0).task
    subject, prompts = known_subject("ideal_learner", task), task.prompts("test", 0, 500)
    told = r"decides ([\d.]+) of ([\d.]+) tokens itself there, as many as at `p=0.5` "
    told += r"\(([\d.]+) of ([\d.]+); all ([\d.]+) without detours\)"
    guide = Path(__file__).parents[1] / "docs" / "metrics.md"
    [found] = re.findall(told, " ".join(guide.read_text(encoding="utf-8").split()))
    seen = []
    for p in (0.75, 0.5, 0.0):
        out = drive(subject, task, prompts, p, "random", np.random.default_rng(0))
        best = top1(subject, np.column_stack((prompts, out)))[:, prompts.shape[1] - 1 : -1]
        written = out != task.vocab.pad
        seen += [(written & (best == out)).sum() / len(out), written.sum() / len(out)]
    assert [float(number) for number in found] == pytest.approx(seen[:-1], abs=0.5)
