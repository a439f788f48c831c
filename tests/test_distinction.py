"""Sequence distinction on subjects whose answer is known.

The references walk dictionaries, enumerate boundaries by recursion and read whole sequences.
"""

from dataclasses import fields, replace

import numpy as np
import pytest

from nextlat_bench.known import known_subject
from nextlat_bench.probes import distinction
from nextlat_bench.probes._sampling import MAX_ROWS, accepts, history_pairs, read_in_step, room
from nextlat_bench.probes.distinction import Distinction, true_boundary, truly_distinguishes
from nextlat_bench.scripted import Oracle
from nextlat_bench.subject import Session
from nextlat_bench.tasks.taxi import Taxi

PROBE = Distinction(num_pairs=120, max_boundary=10**6)
SEED = 7  # as in conftest


@pytest.fixture(scope="module")
def pairs(taxi):
    """The histories that the probe draws, which is the first thing it does."""
    states = taxi.world().start(taxi.prompts("test", 0, 2 * PROBE.num_pairs))
    both = states[: PROBE.num_pairs], states[PROBE.num_pairs :]
    return history_pairs(taxi, *both, np.random.default_rng(SEED), MAX_ROWS)[0]


def step(streets, place, token):
    """(node, destination), token -> the next place, "over" after the true end, or None: illegal."""
    node, destination = place
    if token == "end":
        return "over" if node == destination else None
    return (streets[node][token], destination) if token in streets[node] else None


def boundary(streets, first, second, length):
    """The minimal sequences that are legal from `first` and not from `second`."""
    if length == 0 or first == "over":
        return
    for token in (*streets[first[0]], "end"):
        one, other = step(streets, first, token), step(streets, second, token)
        if one and not other:
            yield (token,)
        elif one and other:
            yield from ((token, *rest) for rest in boundary(streets, one, other, length - 1))


@pytest.fixture(scope="module")
def trials(taxi, streets, pairs):
    """For each pair: histories, room, places and the true boundary."""
    world = taxi.world()
    out = []
    for group in pairs:
        for a, b, *states in zip(*group, strict=True):
            places = [(int(world.node(s)), int(world.destination(s))) for s in np.array(states)]
            true = list(boundary(streets, *places, 5))
            out.append((a, b, room(taxi, group.first), places, true))
    return out


def accepted(taxi, subject, history, sequences):
    """Has every token of each sequence p > 0.01 after the history? Reads whole sequences."""
    ids = [taxi.vocab.encode(list(sequence)) for sequence in sequences]
    tokens = np.full((len(ids), len(history) + 5), taxi.vocab.pad)
    tokens[:, : len(history)] = history
    for row, sequence in zip(tokens, ids, strict=True):
        row[len(history) : len(history) + len(sequence)] = sequence
    log_probs = subject.log_probs(tokens)
    return np.array(
        [
            all(np.exp(log_probs[i, len(history) + t - 1, x]) > 0.01 for t, x in enumerate(s))
            for i, s in enumerate(ids)
        ]
    )


def slow_recall(taxi, subject, trials):
    shares = []
    for a, b, _, _, true in trials:
        if true:
            found = accepted(taxi, subject, a, true) & ~accepted(taxi, subject, b, true)
            shares.append(found.mean())
    return shares


def slow_precision(taxi, streets, subject, trials, rng):
    """One continuation at a time: precision and exact precision of each pair."""
    shares = []
    for a, b, length, places, _ in trials:
        found = set()
        for _ in range(PROBE.num_continuations):
            one, other, sequence = subject.start(a[None]), subject.start(b[None]), ()
            for _ in range(length):
                p = np.exp(one.log_probs[0])
                p[p <= 0.01] = 0
                token = rng.choice(len(p), p=p / p.sum())
                sequence += (taxi.vocab.tokens[token],)
                if np.exp(other.log_probs[0, token]) <= 0.01:
                    found.add(sequence)
                if sequence in found or token == taxi.vocab.end:
                    break
                one.advance(np.array([token]))
                other.advance(np.array([token]))
        if found:
            shares.append(np.mean([is_true(streets, *places, s) for s in found], axis=0))
    return np.array(shares).T


def is_true(streets, first, second, sequence):
    """Is it legal from the first place and not from the second? Is its last token the first that
    is not?"""
    legal_until = []
    for place in (first, second):
        until = 0
        while until < len(sequence) and place not in (None, "over"):
            place = step(streets, place, sequence[until])
            until += place is not None
        legal_until.append(until)
    true = legal_until[0] == len(sequence) > legal_until[1]
    return true, true and legal_until[1] == len(sequence) - 1


# (both precisions, recall); None: there is no boundary, hence no value; "slow", "nearly": as the
# reference, which is neither 0 nor 1
TABLE = {
    "oracle": (1, 1),
    "shortest_path_oracle": ("slow", "slow"),
    "uniform": (None, 0),  # every p = 1/V is below epsilon: it accepts nothing
    "accept_everything": (None, 0),
    "always_end": (None, 0),
    "legal_walker": (1, "but `end`"),  # the distinctions that `end` makes are beyond it
    "forgetful": ("slow", "slow"),
    "history_hash": ("slow", "slow"),
    "noisy_state": (1, 1),
    "wrong_map": ("slow", "slow"),
    "ideal_learner": ("nearly", "nearly"),  # but for those who have little room left
}
BOUNDS = {"slow": (0.05, 0.95), "nearly": (0.95, 1)}
BEYOND = {"wrong_map", "forgetful"}  # who accept what is illegal, and go on from it


@pytest.mark.parametrize("name", TABLE)
def test_known_answers(taxi, known, streets, trials, measured, name):
    *precisions, recall = (measured(PROBE, name)[metric.name, ""] for metric in PROBE.metrics)
    known_precision, known_recall = TABLE[name]
    boundaries = [true for *_, true in trials if true]

    if known_recall == "but `end`":
        known_recall = np.mean([np.mean([s[-1] != "end" for s in true]) for true in boundaries])
        assert 0.95 < known_recall < 1
    elif known_recall in BOUNDS:
        low, high = BOUNDS[known_recall]
        known_recall = np.mean(slow_recall(taxi, known[name], trials))
        assert low < known_recall < high
    assert recall.value == pytest.approx(known_recall, abs=1e-12)
    assert recall.n == len(boundaries)

    if known_precision is None:
        for row in precisions:
            assert np.isnan(row.value)
            assert row.n == 0
            assert row.skipped_because.endswith(f"without a boundary for {row.metric}")
    elif known_precision in BOUNDS:  # half the pairs, other continuations: two samples, 4 SE
        slow = slow_precision(taxi, streets, known[name], trials[::2], np.random.default_rng(1))
        for row, shares in zip(precisions, slow, strict=True):
            error = np.std(shares) * np.sqrt(1 / len(shares) + 1 / row.n)
            assert row.value == pytest.approx(np.mean(shares), abs=4 * error)
            low, high = BOUNDS[known_precision]
            assert low < row.value < high
        assert (precisions[0].value > precisions[1].value) == (name in BEYOND)
    else:
        assert [row.value for row in precisions] == [known_precision] * 2
    for row in (*precisions, recall):
        assert row.n + row.n_skipped == PROBE.num_pairs


def test_the_table_is_complete(known):
    assert set(TABLE) == set(known)


def test_pairs_of_one_state_are_left_out(taxi):
    """Of pairs that hold the same state twice there is nothing to tell apart."""
    half = taxi.prompts("test", 0, 20)

    class Twice(Taxi):
        def prompts(self, split, start, n):
            return np.concatenate([half, np.roll(half[:15], 1, axis=0), half[15:]])[start:][:n]

    twice = Twice(**{f.name: getattr(taxi, f.name) for f in fields(taxi)})
    subject = known_subject("oracle", twice)
    probe = Distinction(num_pairs=20)
    for row in probe.measure(subject, twice, np.random.default_rng(0)):
        assert "5 of one state" in row.skipped_because
        assert row.n + row.n_skipped == 20


def test_true_boundary_is_the_recursion(taxi, streets, trials):
    """Also for states that share intersection or destination, which random pairs seldom do."""
    world, rng = taxi.world(), np.random.default_rng(0)
    nodes, targets = rng.integers(taxi.map.num_nodes, size=(2, 60, 2))
    targets[:20, 1] = targets[:20, 0]
    nodes[20:40, 1] = nodes[20:40, 0]
    targets[:40:3, 0] = nodes[:40:3, 0]  # already there
    first, second = (world.start(np.column_stack((nodes[:, i], targets[:, i]))) for i in (0, 1))
    pair, sequences = true_boundary(world, first, second, 5)
    found = [set() for _ in nodes]
    for i, sequence in zip(pair, sequences, strict=True):
        found[i].add(tuple(taxi.vocab.decode(sequence)))
    places = zip(nodes.tolist(), targets.tolist(), strict=True)
    expected = [set(boundary(streets, (n[0], d[0]), (n[1], d[1]), 5)) for n, d in places]
    assert found == expected
    assert len(pair) == sum(map(len, expected))  # each once
    assert any(s[-1] == "end" and len(s) > 2 for true in expected for s in true)

    lengths = (sequences != taxi.vocab.pad).sum(axis=1)
    assert truly_distinguishes(world, first[pair], second[pair], sequences, lengths).all()
    swapped = truly_distinguishes(world, second[pair], first[pair], sequences, lengths)
    assert not swapped.any()


def test_truth_by_hand(taxi, streets):
    """A turn only the first has; the same with one more, which tells them apart but not exactly;
    one both have; padding in between."""
    world = taxi.world()
    first, second = next(
        (u, v)
        for u in range(len(streets))
        for v in range(len(streets))
        if set(streets[u]) - set(streets[v]) and set(streets[u]) & set(streets[v])
    )
    only = next(iter(set(streets[first]) - set(streets[second])))
    both = next(iter(set(streets[first]) & set(streets[second])))
    after = next(iter(streets[streets[first][only]]))
    cases = [
        ([only], (True, True)),
        ([only, after], (True, False)),
        ([both], (False, False)),
        (["pad", only], (False, False)),
    ]
    states = [world.start(np.array([[node, node]])) for node in (first, second)]
    for sequence, truth in cases:
        ids, length = taxi.vocab.encode(sequence)[None], np.array([len(sequence)])
        assert (*truly_distinguishes(world, *states, ids, length)[:, 0],) == truth


def test_the_cap_on_the_boundary_is_a_fair_sample(taxi, known, measured):
    """One sequence a pair instead of all: the same mean, within 4 SE; and no pair lost."""
    full = measured(PROBE, "wrong_map")["recall", ""]
    capped = measured(replace(PROBE, max_boundary=1), "wrong_map")["recall", ""]
    assert capped.n == full.n
    share = full.value
    assert capped.value == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / full.n))
    assert capped.value * capped.n == pytest.approx(round(capped.value * capped.n))


class TwoFaced(Oracle):
    """After every second history it refuses all; after the others its favourite legal token has
    p = 0.9, so that the rest of its boundary is seldom sampled."""

    num_starts = 0

    def start(self, prompts):
        session = super().start(prompts)
        legal, self.num_starts = np.isfinite(session.log_probs), self.num_starts + 1
        p = legal * 0.1 / np.maximum(legal.sum(axis=1, keepdims=True) - 1, 1)
        p[np.arange(len(p)), legal.argmax(axis=1)] = 0.9
        session.log_probs = np.log(p if self.num_starts % 2 else np.full_like(p, 1e-9))
        return session


def test_a_boundary_counts_each_sequence_once(taxi, streets, trials):
    """However seldom it is sampled: the share of legal tokens that only the first state has."""
    probe = replace(PROBE, num_continuations=600)
    with np.errstate(divide="ignore"):
        rows = probe.measure(TwoFaced(taxi), taxi, np.random.default_rng(SEED))
        precision = next(rows)
    shares = [
        np.mean([step(streets, second, token) is None for token in streets[first[0]]])
        for _, _, _, (first, second), _ in trials
    ]
    assert precision.n == len(shares)
    assert precision.value == pytest.approx(np.mean(shares), abs=1e-12)


class Told(Session):
    """One row, whose next distributions are given."""

    def __init__(self, *distributions: np.ndarray) -> None:
        self.log_probs, *self.later = (np.log(p)[None] for p in distributions)

    def advance(self, tokens: np.ndarray) -> None:
        self.log_probs = self.later.pop(0)

    def select(self, rows: np.ndarray) -> Session:
        return self


def test_a_token_refused_after_its_own_history_stays_refused() -> None:
    """Of two hundred tokens alike the likeliest is said, at p = 0.005, and then a sure one."""
    unsure, sure = np.full(200, 1 / 200), np.r_[0.9, np.full(199, 0.1 / 199)]
    given = Told(unsure, sure), Told(sure, sure), 2, -1, -9, 0.01, np.random.default_rng(0)
    reading = read_in_step(*given, min_probability=0.01)
    assert reading.tokens.tolist() == [[0, 0]]
    assert reading.accepted_by_second.tolist() == [True]
    assert reading.accepted_by_first.tolist() == [False]


def test_a_probability_of_epsilon_is_refused() -> None:
    even = np.log([[0.5, 0.5]])
    assert accepts(even, np.array([1]), 0.5).tolist() == [False]
    assert accepts(even, np.array([1]), 0.49).tolist() == [True]


def test_a_boundary_is_no_longer_than_what_a_sequence_holds(taxi, known, monkeypatch) -> None:
    asked = []

    def spy(world, first, second, max_length):
        asked.append(max_length)
        return np.empty(0, dtype=np.int64), np.empty((0, max_length), dtype=np.int64)

    monkeypatch.setattr(distinction, "true_boundary", spy)
    probe = Distinction(num_pairs=60, num_continuations=1, max_length=20)
    list(probe.measure(known["oracle"], taxi, np.random.default_rng(0)))
    states = taxi.world().start(taxi.prompts("test", 0, 120))
    groups, _ = history_pairs(taxi, states[:60], states[60:], np.random.default_rng(0), MAX_ROWS)
    assert asked == [min(20, 42 - group.first.shape[1]) for group in groups]
    assert min(asked) < 20


def test_pairs_that_the_split_lacks_are_counted(few, known):
    probe = Distinction(num_pairs=40, num_continuations=2)
    for row in probe.measure(known["oracle"], few, np.random.default_rng(0)):
        assert row.n + row.n_skipped == 40
        assert "25 beyond the split" in row.skipped_because
