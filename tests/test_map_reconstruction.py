"""Map reconstruction on maps drawn by hand, and against a slow reference on every known subject."""

import math

import numpy as np
import pytest
from hand_maps import DIRECTIONS, MAP_SUBJECTS, NE, OVER, SE, E, N, S, W, map_of, turns_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench import registry
from nextlat_bench.generate import generate
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.map_reconstruction import (
    HALF_MILE,
    MapReconstruction,
    crow_flies,
    reconstruct,
)
from nextlat_bench.report.statistics import wilson_interval
from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks.taxi import StreetMap, Taxi

PROBE = MapReconstruction(num_trials=300)
SAMPLED = MapReconstruction(num_trials=300, temperature=1.0)


@pytest.fixture
def cross():
    """A one-way street from 0 east to 1 and on north to 2; 3 far to the west; 4 between 1 and 2.

    2
    4
    |
    3 ........ 0 - 1        4 lies north of 1, 300 m; 2 lies north of 1, 400 m; 3 is 900 m away
    """
    places = [(0, 0), (200, 0), (200, 400), (-900, 0), (200, 300)]
    return map_of(places, {(0, E): 1, (1, N): 2, (2, S): 1, (3, E): 0})


def test_legal_turns_make_true_edges(cross):
    found = reconstruct(cross, np.array([0, 2, 0]), turns_of([E, N, S], [S], [E]))
    assert found.true_edges.tolist() == [[0, 1], [1, 2], [2, 1]]
    assert found.false_edges.tolist() == []
    assert found.false_edge_share == 0
    assert not found.stopped.any()


def test_a_false_edge_leads_to_the_nearest_node_that_lies_that_way(cross):
    """From 2, 4 is nearer than 1; from 0 the node NE at 45 degrees and a bit is 4, not 2."""
    found = reconstruct(cross, np.array([0, 4]), turns_of([NE, N], [S]))
    assert found.false_edges.tolist() == [[0, NE, 4], [4, N, 2], [4, S, 1]]
    assert found.true_edges.tolist() == []
    assert found.false_edge_share == 1


def test_a_false_edge_is_walked_on_and_used_again(cross):
    """0 goes NE to 4, and then S to 1, N to 2: the last turn is a street again."""
    found = reconstruct(cross, np.array([0, 0]), turns_of([NE, S, N], [NE]))
    assert found.false_edges.tolist() == [[0, NE, 4], [4, S, 1]]
    assert found.true_edges.tolist() == [[1, 2]]
    assert found.false_edge_share == pytest.approx(2 / 3)


def test_where_nothing_lies_that_way_the_sequence_stops(cross):
    """0 has no node to the south, and 3 lies 900 m west, more than half a mile."""
    found = reconstruct(cross, np.array([0, 0, 0]), turns_of([E, W, E], [S, E], [W]))
    assert found.stopped.tolist() == [False, True, True]
    assert found.true_edges.tolist() == [[0, 1]]
    assert found.false_edges.tolist() == [[1, W, 0]]
    nearer = reconstruct(cross, np.array([0]), turns_of([W]), max_length=901.0)
    assert nearer.false_edges.tolist() == [[0, W, 3]]
    assert not nearer.stopped.any()


def test_the_longest_false_edge_is_half_a_mile():
    for metres, count in ((804.6, 1), (804.8, 0)):
        streets = map_of([(0, 0), (0, metres)], {(1, S): 0})
        found = reconstruct(streets, np.array([0]), turns_of([N]))
        assert len(found.false_edges) == count
    assert HALF_MILE == 0.5 * 1609.344


def test_no_node_gets_more_than_eight_neighbours():
    """A full hub 0, whose eight neighbours 1..8 lie everywhere but E; 9 lies E, 10 E of that."""
    angles = np.radians([0, 45, 135, 160, 180, 225, 270, 315])
    places = [(0, 0), *zip(50 * np.sin(angles), 50 * np.cos(angles), strict=True)]
    hub = map_of([*places, (100, 0), (200, 0)], {(i, N): 0 for i in range(1, 9)})
    # nothing may be added to it: none E of it, and W from 10 and 9 leads past it to 6, 255 degrees
    found = reconstruct(hub, np.array([0, 10]), turns_of([E], [W, W]))
    assert found.stopped.tolist() == [True, False]
    assert found.false_edges.tolist() == [[9, W, 6], [10, W, 9]]
    # with room for one more there is; and who is joined already needs no room
    more = reconstruct(hub, np.array([0, 10]), turns_of([E], [W]), max_degree=9)
    assert more.false_edges.tolist() == [[0, E, 9], [10, W, 9]]
    back = reconstruct(hub, np.array([0]), turns_of([NE]))
    assert back.false_edges.tolist() == [[0, NE, 2]]


def test_nodes_in_one_place_have_no_direction():
    streets = map_of([(0, 0), (0, 0), (0, 50)], {(0, E): 1, (1, N): 2, (2, S): 1})
    found = reconstruct(streets, np.array([0]), turns_of([N]))
    assert found.false_edges.tolist() == [[0, N, 2]]


def test_distances_against_the_haversine_by_hand():
    one_degree = math.pi / 180 * 6_371_009
    there = np.array([1.0, 0.0, 0.0, 181.0]), np.array([0.0, 1.0, 0.0, 0.0])
    found = crow_flies(0.0, 0.0, *there)
    assert found == pytest.approx([one_degree, one_degree, 0, 179 * one_degree])
    at_60_degrees = crow_flies(0.0, 60.0, np.array([0.001]), np.array([60.0]))
    assert at_60_degrees == pytest.approx([0.0005 * one_degree], rel=1e-6)


def test_wrong_arguments(cross):
    for turn in (8, -2):
        with pytest.raises(ValueError, match="turns: expected"):
            reconstruct(cross, np.array([0]), np.array([[turn]]))


class SlowMapper:
    """The definition in words: dictionaries, one step of one sequence at a time."""

    def __init__(self, streets, max_degree=8, max_length=HALF_MILE):
        self.place = list(zip(streets.longitude, streets.latitude, strict=True))
        self.true = {
            (u, k): v for u, row in enumerate(streets.neighbour.tolist()) for k, v in enumerate(row)
        }
        self.true = {edge: v for edge, v in self.true.items() if v >= 0}
        self.max_degree, self.max_length = max_degree, max_length
        self.false, self.dead, self.driven = {}, set(), set()

    def friends(self, node):
        edges = [*self.true.items(), *self.false.items()]
        return {v for (u, _), v in edges if u == node} | {u for (u, _), v in edges if v == node}

    def metres_and_direction(self, a, b):
        (x, y), (to_x, to_y) = (map(math.radians, self.place[node]) for node in (a, b))
        cosine = math.sin(y) * math.sin(to_y) + math.cos(y) * math.cos(to_y) * math.cos(to_x - x)
        flat = math.hypot((to_x - x) * math.cos((y + to_y) / 2), to_y - y)
        # the law of cosines loses short distances, the flat one long ones
        metres = 6_371_009 * (flat if flat < 1e-2 else math.acos(min(cosine, 1)))
        bearing = math.atan2(
            math.sin(to_x - x) * math.cos(to_y),
            math.cos(y) * math.sin(to_y) - math.sin(y) * math.cos(to_y) * math.cos(to_x - x),
        )
        return metres, int((math.degrees(bearing) % 360 + 22.5) // 45) % 8

    def add(self, node, direction):
        options = []
        for other in range(len(self.place)):
            metres, way = self.metres_and_direction(node, other)
            if 0 < metres <= self.max_length and way == direction:
                options.append((metres, other))
        for _, other in sorted(options):
            friends = self.friends(node)
            if other in friends or (
                len(friends) < self.max_degree and len(self.friends(other)) < self.max_degree
            ):
                self.false[node, direction] = other
                return
        self.dead.add((node, direction))

    def follow(self, origins, turns):
        """Sorted true edges, sorted false edges, and which sequences were stopped."""
        at, stopped = dict(enumerate(origins)), set()
        for step in range(len(turns[0])):
            at = {i: node for i, node in at.items() if turns[i][step] != OVER}
            for edge in sorted({(node, turns[i][step]) for i, node in at.items()}):
                if edge not in self.true | self.false and edge not in self.dead:
                    self.add(*edge)
            for i, node in list(at.items()):
                edge = node, turns[i][step]
                if edge in self.dead:
                    stopped.add(i)
                    del at[i]
                else:
                    self.driven.add(edge)
                    at[i] = (self.true | self.false)[edge]
        true = sorted((u, k, v) for (u, k), v in self.true.items() if (u, k) in self.driven)
        false = sorted([u, k, v] for (u, k), v in self.false.items() if (u, k) in self.driven)
        return [[u, v] for u, _, v in true], false, [i in stopped for i in range(len(origins))]


def as_lists(found):
    return found.true_edges.tolist(), found.false_edges.tolist(), found.stopped.tolist()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_against_a_slow_mapper(seed):
    rng = np.random.default_rng(seed)
    num_nodes, steps = int(rng.integers(2, 12)), int(rng.integers(1, 7))
    places = rng.uniform(0, rng.choice([500, 2500]), size=(num_nodes, 2))
    streets = map_of(places, {})
    slow = SlowMapper(streets)
    exits = {}
    for a, b in rng.integers(num_nodes, size=(2 * num_nodes, 2)).tolist():
        if a != b:
            exits[a, slow.metres_and_direction(a, b)[1]] = b
    streets = map_of(places, exits)
    origins = rng.integers(num_nodes, size=9)
    turns = rng.integers(8, size=(9, steps))
    turns[rng.random(turns.shape) < 0.1] = OVER
    turns[(np.cumsum(turns == OVER, axis=1) > 0)] = OVER
    limits = int(rng.integers(2, 6)), float(rng.choice([400, HALF_MILE]))
    before = streets.digest, turns.tobytes(), origins.tobytes()
    found = reconstruct(streets, origins, turns, *limits)
    expected = SlowMapper(streets, *limits).follow(origins.tolist(), turns.tolist())
    assert as_lists(found) == tuple(expected)
    assert (streets.digest, turns.tobytes(), origins.tobytes()) == before
    # the order of the sequences does not matter
    order = rng.permutation(9)
    again = as_lists(reconstruct(streets, origins[order], turns[order], *limits))
    assert again[:2] == as_lists(found)[:2]
    assert again[2] == found.stopped[order].tolist()


def by_metric(measured, probe, name):
    return {metric: row for (metric, _), row in measured(probe, name).items()}


@pytest.mark.parametrize("name", MAP_SUBJECTS)
@pytest.mark.parametrize("probe", [PROBE, SAMPLED], ids=["greedy", "sampled"])
def test_known_subjects_against_the_slow_mapper(taxi, known, measured, probe, name):
    """The same tokens, cut into turns by their names and followed in words."""
    prompts = taxi.prompts("test", 0, probe.num_trials)
    rng = np.random.default_rng(7) if probe.temperature else None  # the seed of `measured`
    end, pad = taxi.vocab.end, taxi.vocab.pad
    tokens = generate(known[name], prompts, taxi.max_new_tokens, end=end, pad=pad, rng=rng)
    walks, strayed = [], []
    for row in tokens.tolist():
        words = [taxi.vocab.tokens[token] for token in row]
        length = next((t for t, word in enumerate(words) if word not in DIRECTIONS), len(words))
        walks.append([DIRECTIONS.index(word) for word in words[:length]])
        strayed.append(length < len(words) and words[length] != "end")
    mapper = SlowMapper(taxi.map)
    true, false, stopped = mapper.follow(prompts[:, 0].tolist(), turns_of(*walks).tolist() or [[]])
    cut_short = [s and not stop for s, stop in zip(strayed, stopped, strict=True)]
    found = by_metric(measured, probe, name)
    assert found["true_edges"].value == len(true)
    assert found["false_edges"].value == len(false)
    assert found["stopped"].value == pytest.approx(np.mean(stopped))
    assert found["strayed"].value == pytest.approx(np.mean(cut_short))
    share = found["false_edge_share"]
    assert share.n == len(true) + len(false)
    assert share.n_skipped == sum(stopped) + sum(cut_short)
    if share.n:
        assert share.value == pytest.approx(len(false) / share.n)
        assert (share.low, share.high) == wilson_interval(len(false), share.n)
    else:
        assert np.isnan([share.value, share.low, share.high]).all()


@pytest.mark.parametrize("probe", [PROBE, SAMPLED], ids=["greedy", "sampled"])
def test_what_the_known_subjects_must_score(measured, probe):
    rows = {name: by_metric(measured, probe, name) for name in MAP_SUBJECTS}
    share = {name: row["false_edge_share"] for name, row in rows.items()}
    # never an illegal turn: no false edge, and no sequence cut short
    for name in ("oracle", "shortest_path_oracle", "legal_walker", "history_hash", "ideal_learner"):
        assert share[name].value == share[name].n_skipped == 0
        assert share[name].n > 100
    # no turn at all: nothing to judge, which is not the same as nothing false
    assert np.isnan(share["always_end"].value)
    assert share["always_end"].n == share["always_end"].n_skipped == 0
    for name in ("forgetful", "wrong_map", "accept_everything"):
        assert share[name].low > share["oracle"].high, name
    # the lowest id is a node; sampled, the first token alone is neither turn nor `end` so often
    vocab = 144 + 10
    first = 1 if probe is PROBE else 145 / vocab
    assert rows["uniform"]["strayed"].high >= first
    if probe is PROBE:
        assert rows["uniform"]["strayed"].value == 1
        assert np.isnan(share["uniform"].value)
        # always N, and the map has a northern end
        assert rows["accept_everything"]["stopped"].value == 1
        assert share["noisy_state"].value == 0
    else:
        # 0.4% of each illegal turn, five or so a step
        assert share["noisy_state"].low > share["oracle"].high


@pytest.mark.parametrize("probe", [PROBE], ids=["greedy"])
def test_catches_and_misses(measured, probe):
    oracle = by_metric(measured, probe, "oracle")
    assert set(probe.catches) | set(probe.misses) | {"oracle"} == set(MAP_SUBJECTS)
    for name in set(MAP_SUBJECTS) - {"oracle"}:
        rows = by_metric(measured, probe, name)
        above = [
            rows[metric].low > oracle[metric].high
            for metric in ("false_edge_share", "stopped", "strayed")
            if rows[metric].n
        ]
        assert any(above) == (name in probe.catches), name


def test_metrics_are_those_declared(measured):
    assert set(by_metric(measured, PROBE, "oracle")) == {m.name for m in PROBE.metrics}


def test_prompts_beyond_the_split_are_counted(known):
    task = Taxi(radius=250, max_nodes=9, max_path=9, max_new=9)
    num_pairs = len(task.prompts("test", 0, 10**6))
    probe = MapReconstruction(num_trials=num_pairs + 11)
    subject = type(known["oracle"])(task)
    rows = {row.metric: row for row in probe.measure(subject, task, np.random.default_rng(0))}
    for metric in ("false_edges", "true_edges", "stopped", "strayed"):
        assert (rows[metric].n, rows[metric].n_skipped) == (num_pairs, 11)
    assert rows["false_edge_share"].n_skipped == 11
    assert {row.skipped_because for row in rows.values()} == {"11 beyond the split"}


class Script(Subject):
    """Says the same tokens after every prompt."""

    name = "script"

    def __init__(self, vocab, words):
        self.vocab_size, self.tokens = len(vocab), vocab.encode(words)

    def start(self, prompts):
        return ScriptSession(self, len(prompts), 0)


class ScriptSession(Session):
    def __init__(self, subject, n, said):
        self.subject, self.said = subject, said
        self.log_probs = np.full((n, subject.vocab_size), -np.inf)
        self.log_probs[:, subject.tokens[min(said, len(subject.tokens) - 1)]] = 0

    def advance(self, tokens):
        self.__init__(self.subject, len(tokens), self.said + 1)

    def select(self, rows):
        return ScriptSession(self.subject, len(rows), self.said)


@pytest.mark.parametrize(
    ("words", "strayed"),
    [(["end"], 0), (["N", "end"], 0), (["3"], 1), (["pad"], 1), (["N"], 0)],
)
def test_tokens_that_are_no_turns(taxi, words, strayed):
    """Unless a turn before them led nowhere: then the sequence was not followed that far."""
    probe = MapReconstruction(num_trials=50)
    subject = Script(taxi.vocab, words)
    rows = {row.metric: row for row in probe.measure(subject, taxi, np.random.default_rng(0))}
    assert rows["strayed"].value == strayed
    subject = Script(taxi.vocab, ["N", *words])
    rows = {row.metric: row for row in probe.measure(subject, taxi, np.random.default_rng(0))}
    assert rows["stopped"].value > 0
    assert rows["strayed"].value + (rows["stopped"].value if strayed else 0) == strayed


def test_nothing_counts_after_a_token_that_is_no_turn(taxi):
    subject = Script(taxi.vocab, ["SE", "3", "N", "SE", "end"])
    walks = PROBE.traversals(subject, taxi, np.random.default_rng(0))
    assert walks.turns.shape == (300, 40)
    assert np.unique(walks.turns, axis=0).tolist() == [[SE] + 39 * [OVER]]
    assert walks.strayed.all()


def test_maps_without_coordinates(tmp_path, known):
    file = tmp_path / "streets.csv"
    table = [f"{i},{d},{(i + s) % 30}" for i in range(30) for d, s in (("N", 1), ("S", 29))]
    file.write_text("\n".join(["node,direction,neighbour", *table]))
    task = Taxi(streets=StreetMap.load(file), max_nodes=9, max_path=9, max_new=9)
    subject = type(known["oracle"])(task)
    with pytest.raises(NotApplicable, match=r"streets.*has no coordinates"):
        list(PROBE.measure(subject, task, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="without coordinates"):
        reconstruct(task.map, np.array([0]), turns_of([N]))


def test_tasks_without_a_map(known):
    class Maps:
        name = "other"
        vocab = range(known["oracle"].vocab_size)

    with pytest.raises(NotApplicable, match="the task other has no street map"):
        list(PROBE.measure(known["oracle"], Maps(), np.random.default_rng(0)))


def test_the_map_and_the_task_stay_as_they_are(taxi, known):
    before = taxi.map.digest, taxi.prompts("test", 0, 50).tobytes()
    for name in MAP_SUBJECTS:
        probe = MapReconstruction(num_trials=20, temperature=1.0)
        once, again = (
            list(map(str, probe.measure(known[name], taxi, np.random.default_rng(3))))
            for _ in range(2)
        )
        assert once == again
    assert (taxi.map.digest, taxi.prompts("test", 0, 50).tobytes()) == before


def test_parameters():
    assert registry.from_json("probes", registry.to_json(SAMPLED)) == SAMPLED
    wrong = {"num_trials": 0, "temperature": -0.1, "max_degree": 0, "max_length": 0.0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=rf"\.{name} = "):
            MapReconstruction(**{name: value})
