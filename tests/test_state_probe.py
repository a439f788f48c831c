"""The state probe on hidden states that hold the state, nothing, or the current token alone."""

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hand_maps import MAP_SUBJECTS

from nextlat_bench import registry
from nextlat_bench.probes import state_probe
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes._states import standardised
from nextlat_bench.probes.state_probe import StateProbe, linear_predictions, state_labels
from nextlat_bench.subject import Subject
from nextlat_bench.tasks.path_star import PathStar
from nextlat_bench.tasks.taxi import Taxi

PROBE = StateProbe(num_sequences=256)
NUM_TRAIN = 192


class Walker(Subject):
    """Hidden states are codes of where the walk is, nan where that is unknown or over."""

    name = "walker"

    def __init__(self, task, streets):
        self.streets, self.vocab = streets, task.vocab
        num_nodes = len(streets)
        rng = np.random.default_rng(0)
        self.codes = np.linalg.qr(rng.standard_normal((num_nodes, num_nodes)))[0]
        self.tokens = rng.standard_normal((len(task.vocab), 16))

    def start(self, prompts):
        raise AssertionError("the state probe generates nothing")

    def code(self, tokens, t, node):
        return self.codes[node]

    def hidden(self, tokens, reading="hidden"):
        if reading == "embedding":
            return self.tokens[tokens].astype(np.float32)
        width = self.code(tokens[0], 1, 0).shape
        out = np.full((*tokens.shape, *width), np.nan, dtype=np.float32)
        for i, row in enumerate(tokens):
            for t, node in places(self.vocab, self.streets, row):
                out[i, t] = self.code(row, t, node)
        return out

    def predict_hidden(self, hidden, tokens):
        return None

    def read_out(self, hidden):
        raise AssertionError("the state probe reads no token")


class Guesser(Walker):
    """Noise that depends on nothing."""

    name = "guesser"

    def code(self, tokens, t, node):
        return np.random.default_rng([*tokens.tolist(), t]).standard_normal(16)


class Student(Walker):
    """Knows the state, and its untrained self does not."""

    name = "student"

    def __init__(self, task, streets):
        super().__init__(task, streets)
        self.fresh = Guesser(task, streets)

    def untrained(self):
        return self.fresh


def places(vocab, streets, walk):
    """(position, node) at every scored position of a walk, in words."""
    origin, _, *turns = vocab.decode(walk)
    node = int(origin)
    found = [(1, node)]
    for t, turn in enumerate(turns, start=2):
        if turn != "end":
            node = streets[node][turn]
            found.append((t, node))
    return found


@pytest.fixture(scope="module")
def visits(taxi, streets):
    """(sequence, position, node, token there) of all scored positions, row by row."""
    walks = taxi.sample("test", 0, PROBE.num_sequences).tokens
    return [
        (i, t, node, int(walk[t]))
        for i, walk in enumerate(walks)
        for t, node in places(taxi.vocab, streets, walk)
    ]


def measure(subject, task, probe=PROBE):
    rows = list(probe.measure(subject, task, np.random.default_rng(0)))
    assert {row.metric for row in rows} == {"state_accuracy"}
    return {row.condition: row for row in rows}


@pytest.fixture(scope="module")
def of_walker(taxi, streets):
    return measure(Walker(taxi, streets), taxi)


@pytest.fixture(scope="module")
def of_guesser(taxi, streets):
    return measure(Guesser(taxi, streets), taxi)


def split(visits, num_train=NUM_TRAIN):
    """Training visits, test visits of known nodes, and the number of the others."""
    train = [v for v in visits if v[0] < num_train]
    seen = {v[2] for v in train}
    test = [v for v in visits if v[0] >= num_train]
    return train, [v for v in test if v[2] in seen], sum(v[2] not in seen for v in test)


def test_hidden_states_that_hold_the_state(of_walker, visits):
    rows = of_walker
    assert set(rows) == {"hidden", "embedding", "majority"}
    assert rows["hidden"].value == 1
    assert rows["hidden"].high == 1
    assert 0.9 < rows["hidden"].low < 1  # by Wilson, as if a sequence were one trial
    assert {row.n for row in rows.values()} == {len(split(visits)[1])}


def test_noise_is_no_better_than_chance(of_guesser, visits):
    """A guess that does not depend on the truth is right at most as often as the commonest node."""
    row = of_guesser["hidden"]
    commonest = Counter(v[2] for v in split(visits)[1]).most_common(1)[0][1] / row.n
    assert row.value < commonest + 4 * np.sqrt(commonest / row.n)
    assert row.low <= row.value <= row.high


def test_the_current_token_alone(of_walker, visits):
    """A reader of the token can do no better than the commonest node of each token in the test."""
    row = of_walker["embedding"]
    train, test, _ = split(visits)
    by_token = {
        token: Counter(v[2] for v in test if v[3] == token) for token in {v[3] for v in test}
    }
    best = sum(max(nodes.values()) for nodes in by_token.values()) / len(test)
    assert row.value <= best
    assert row.value < 0.25
    habits = {v[3]: Counter(w[2] for w in train if w[3] == v[3]) for v in train}
    overall = Counter(v[2] for v in train)
    learned = np.mean([v[2] == habits.get(v[3], overall).most_common(1)[0][0] for v in test])
    assert row.value == pytest.approx(learned, abs=0.03)


def test_the_commonest_state(of_walker, visits):
    train, test, _ = split(visits)
    count = Counter(v[2] for v in train)
    commonest = min(count, key=lambda node: (-count[node], node))
    share = np.mean([v[2] == commonest for v in test])
    assert of_walker["majority"].value == pytest.approx(share)


def test_the_untrained_decoder_where_there_is_one(taxi, streets, of_guesser):
    rows = measure(Student(taxi, streets), taxi)
    assert rows["hidden"].value == 1
    assert rows["untrained"].value == of_guesser["hidden"].value
    assert rows["untrained"].value < 0.1


def test_training_and_test_share_no_sequence(taxi, streets, visits, monkeypatch):
    """The features are (sequence, position), so that what is fitted on what can be read off."""
    walks = taxi.sample("test", 0, PROBE.num_sequences).tokens

    def words(walk):
        return tuple(token for token in walk.tolist() if token < taxi.vocab.end)

    number = {words(walk): i for i, walk in enumerate(walks)}

    class Labelled(Walker):
        def code(self, tokens, t, node):
            return np.array([number[words(tokens)], t], dtype=np.float32)

    calls = []

    def spy(hidden, labels, test_hidden):
        calls.append((hidden, labels, test_hidden))
        return np.zeros(len(test_hidden), dtype=np.int64)

    monkeypatch.setattr(state_probe, "linear_predictions", spy)
    measure(Labelled(taxi, streets), taxi)
    train, test, _ = split(visits)
    hidden, labels, test_hidden = calls[0]  # the later ones read embeddings
    assert hidden.tolist() == [[number[words(walks[i])], t] for i, t, *_ in train]
    assert labels.tolist() == [node for _, _, node, _ in train]
    assert test_hidden.tolist() == [[number[words(walks[i])], t] for i, t, *_ in test]


def test_states_never_seen_in_training_are_counted(taxi, streets, visits):
    few = [v for v in visits if v[0] < 16]
    _, test, num_unseen = split(few, num_train=12)
    rows = measure(Walker(taxi, streets), taxi, StateProbe(num_sequences=16))
    assert num_unseen > 0
    for row in rows.values():
        assert (row.n, row.n_skipped) == (len(test), num_unseen)
        assert row.skipped_because == (
            f"{num_unseen} positions whose state occurs nowhere in training"
        )


def test_scored_positions_only(taxi, streets, visits):
    class Sparse(Taxi):
        def sample(self, split, start, n):
            batch = super().sample(split, start, n)
            targets = batch.targets.copy()
            targets[:, ::3] = -1
            return replace(batch, targets=targets)

    task = Sparse(streets=taxi.streets, radius=500, max_nodes=40, max_path=20, max_new=40)
    row = measure(Walker(task, streets), task)["majority"]
    expected = sum(v[0] >= NUM_TRAIN and v[1] % 3 > 0 for v in visits)
    assert row.n + row.n_skipped == expected


def test_the_interval_is_clustered_by_sequence(taxi, streets):
    """Hidden states that are right for whole sequences or not at all."""

    class Moody(Walker):
        def code(self, tokens, t, node):
            return self.codes[node] if tokens[0] % 2 else 0 * self.codes[0]

    row = measure(Moody(taxi, streets), taxi)["hidden"]
    naive = 1.96 * np.sqrt(row.value * (1 - row.value) / row.n)
    assert row.high - row.low > 4 * naive


def test_linear_predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300) * 10
    hidden = np.eye(31)[labels] + 0.1 * rng.standard_normal((300, 31))
    assert (linear_predictions(hidden[:200], labels[:200], hidden[200:]) == labels[200:]).all()
    # neither the scale of a feature nor one that never changes matters
    scaled = hidden * np.logspace(-6, 6, 31)
    scaled[:, 5] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = linear_predictions(scaled[:200], labels[:200], scaled[200:])
    assert (found == labels[200:]).all()
    # a checkerboard is not linearly separable
    square = rng.choice([-1.0, 1.0], size=(400, 2))
    sign = (square.prod(axis=1) > 0).astype(int)
    found = linear_predictions(square[:200], sign[:200], square[200:])
    assert np.mean(found == sign[200:]) < 0.8


def test_features_are_standardised_by_the_training_examples_alone():
    """Means 1 and 9, spreads 1 and 0; a feature that is constant there keeps its own size."""
    train, test = np.array([[0.0, 9.0], [2.0, 9.0]]), np.array([[5.0, 9.0], [7.0, 9.5]])
    found = standardised(train, test)
    assert [each.tolist() for each in found] == [[[-1, 0], [1, 0]], [[4, 0], [6, 0.5]]]


def test_state_labels(taxi):
    world = taxi.world()
    start = world.start(np.array([[5, 9], [9, 5], [5, 7]]))
    dead = world.advance(start[:1], np.array([taxi.vocab.end]))
    assert state_labels(world, np.concatenate([start, dead])).tolist() == [5, 9, 5, -1]
    assert state_labels(object(), np.array([3, 1, 3])).tolist() == [3, 1, 3]


def test_broken_hidden_states_are_an_error(taxi, streets):
    subject = Walker(taxi, streets)
    subject.codes[3, 3] = np.inf
    with pytest.raises(ValueError, match="walker: its hidden states are not finite"):
        measure(subject, taxi)


@pytest.mark.parametrize("name", MAP_SUBJECTS)
def test_subjects_without_hidden_states(taxi, known, name):
    with pytest.raises(NotApplicable, match=f"{name} has no hidden states"):
        measure(known[name], taxi)


def test_tasks_without_a_world_or_without_states_to_tell_apart(taxi, streets):
    class Worldless(Taxi):
        def world(self):
            return None

    size = {"radius": 500, "max_nodes": 40, "max_path": 20, "max_new": 40}
    with pytest.raises(NotApplicable, match="the task taxi has no world"):
        measure(Walker(taxi, streets), Worldless(**size))

    class Here:
        """A world that stands still."""

        def start(self, prompts):
            return np.zeros(len(prompts), dtype=np.int64)

        def advance(self, states, tokens):
            return states

    class Still(Taxi):
        def world(self):
            return Here()

    with pytest.raises(NotApplicable, match="fewer than two states"):
        measure(Walker(taxi, streets), Still(**size))

    class Elsewhere(Here):
        """No state occurs in two sequences."""

        def start(self, prompts):
            return np.arange(len(prompts))

    class Apart(Taxi):
        def world(self):
            return Elsewhere()

    with pytest.raises(NotApplicable, match="no state of taxi occurs both"):
        measure(Walker(taxi, streets), Apart(**size))


def test_a_state_that_is_nearly_always_new_is_not_asked_for(taxi, streets):
    """As in a board game: the few that come again would be all that is measured."""

    class Remembers:
        """A state is all that was read."""

        def start(self, prompts):
            return np.asarray(prompts @ [41, 1], dtype=np.int64)

        def advance(self, states, tokens):
            return states * 53 + tokens & 2**60 - 1

    class Board(Taxi):
        def world(self):
            return Remembers()

    task = Board(streets=taxi.streets, radius=500, max_nodes=40, max_path=20, max_new=40)
    with pytest.raises(NotApplicable, match=r"states at .* positions of taxi are too many.*node"):
        measure(Walker(task, streets), task)


def test_nothing_is_changed_and_nothing_is_random(taxi, streets):
    before = taxi.map.digest, taxi.sample("test", 0, 100).tokens.tobytes()
    probe = StateProbe(num_sequences=64)
    rows = [measure(Guesser(taxi, streets), taxi, probe) for _ in range(2)]
    assert rows[0] == rows[1]
    assert (taxi.map.digest, taxi.sample("test", 0, 100).tokens.tobytes()) == before


def test_parameters():
    assert registry.from_json("probes", registry.to_json(PROBE)) == PROBE
    for wrong in ({"num_sequences": 1}, {"test_share": 0}, {"test_share": 1.0}):
        with pytest.raises(ValueError, match=rf"\.{next(iter(wrong))} = "):
            StateProbe(**wrong)


def test_states_that_are_records_have_no_label() -> None:
    task = PathStar()
    states = task.world().start(task.prompts("test", 0, 3))
    with pytest.raises(NotApplicable, match="PathStarWorld is a record"):
        state_labels(task.world(), states)
