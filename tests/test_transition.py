"""Transition consistency on dynamics that are exact, frozen, or of a collapsed model."""

import warnings

import numpy as np
import pytest
from hand_maps import MAP_SUBJECTS

from nextlat_bench import registry
from nextlat_bench.probes import _states, transition
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes._intervals import ratio_measurement
from nextlat_bench.probes.transition import Transition, kl_divergence, rollouts
from nextlat_bench.subject import Subject
from nextlat_bench.tasks.taxi import Taxi

PROBE = Transition(num_sequences=60, steps=4)
WIDTH = 12


class Latent(Subject):
    """Hidden states are random codes of a number that each prefix has; nan at padding."""

    name = "latent"

    def __init__(self, task):
        self.task, self.vocab = task, task.vocab
        self.numbers = {}  # code -> number
        self.head = np.random.default_rng(1).standard_normal((WIDTH, len(task.vocab)))

    def start(self, prompts):
        raise AssertionError("transition generates nothing")

    def code(self, number):
        code = np.random.default_rng(number).standard_normal(WIDTH).astype(np.float32)
        self.numbers[code.tobytes()] = number
        return code

    def number(self, prefix):
        """The whole prefix, by default: no two hidden states are alike."""
        return prefix

    def hidden(self, tokens, reading="hidden"):
        assert reading == "hidden"
        out = np.full((*tokens.shape, WIDTH), np.nan, dtype=np.float32)
        for i, row in enumerate(tokens.tolist()):
            for t in range(len(self.vocab.decode(np.array(row)))):
                out[i, t] = self.code(self.number(row[: t + 1]))
        return out

    def predict_hidden(self, hidden, tokens):
        assert np.isfinite(hidden).all()
        assert (tokens != self.vocab.pad).all()
        return self.predict(hidden, tokens)

    def predict(self, hidden, tokens):
        return hidden

    def read_out(self, hidden):
        assert np.isfinite(hidden).all()
        logits = hidden @ self.head
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


class Exact(Latent):
    """Codes of the world's states, led on by the world itself."""

    name = "exact"

    def number(self, prefix):
        world, origin = self.task.world(), prefix[0]
        if len(prefix) == 1:
            return [0, origin]
        state = world.start(np.array([prefix[:2]]))
        for token in prefix[2:]:
            state = world.advance(state, np.array([token]))
        return [1, int(state[0])]

    def predict(self, hidden, tokens):
        world, out = self.task.world(), []
        for code, token in zip(hidden, tokens, strict=True):
            kind, value = self.numbers[code.tobytes()]
            if kind == 0:
                state = world.start(np.array([[value, token]]))
            else:
                state = world.advance(np.array([value]), np.array([token]))
            out.append(self.code([1, int(state[0])]))
        return np.stack(out)

    def read_out(self, hidden):
        """Uniform over the legal tokens, -inf elsewhere."""
        states = [self.numbers[code.tobytes()][1] for code in hidden]
        legal = self.task.world().legal(np.array(states))
        with np.errstate(divide="ignore"):
            return np.log(legal / legal.sum(axis=1, keepdims=True))


def measure(subject, task, probe=PROBE):
    rows = probe.measure(subject, task, np.random.default_rng(0))
    return {(row.metric, row.condition): row for row in rows}


def pairs_ahead(task, steps, count):
    """Of held-out walks: (row, t, t + steps, is t + steps scored?) inside the walk."""
    out = []
    for i, walk in enumerate(task.sample("test", 0, count).tokens):
        length = len(task.vocab.decode(walk))
        for t in range(length - steps):
            out.append((i, t, t + steps, 1 <= t + steps < length - 1))
    return out


def test_exact_dynamics(taxi):
    rows = measure(Exact(taxi), taxi)
    assert list(rows) == [
        (metric, f"steps={i}") for i in (1, 2, 3, 4) for metric in ("latent_distance_ratio", "kl")
    ]
    for (metric, condition), row in rows.items():
        assert row.value == row.low == row.high == 0
        ahead = pairs_ahead(taxi, int(condition[-1]), 60)
        scored = [pair for pair in ahead if pair[3]]
        assert row.n == len(scored if metric == "kl" else ahead)


def test_dynamics_that_stand_still(taxi):
    """g[i] = h[t], so every number is a plain mean over pairs of hidden states of a walk."""
    subject = Latent(taxi)
    hidden = subject.hidden(taxi.sample("test", 0, 60).tokens)
    rows = measure(subject, taxi)
    for steps in (1, 2, 3, 4):
        divergences = []
        for i, t, u, scored in pairs_ahead(taxi, steps, 60):
            if scored:
                p, q = np.exp(subject.read_out(hidden[[i, i], [u, t]]).astype(float))
                divergences.append((p * np.log(p / q)).sum())
        row = rows["kl", f"steps={steps}"]
        assert row.value == pytest.approx(np.mean(divergences), rel=1e-5)
        assert row.low < row.value < row.high
        # any two codes are as far apart as any other two
        row = rows["latent_distance_ratio", f"steps={steps}"]
        assert row.low < row.value < row.high
        assert row.value == pytest.approx(1, abs=0.05)


def test_the_denominator_is_the_distance_of_random_pairs(taxi):
    """Codes on two points: a random pair is apart half of the time; the guess always halfway."""

    class TwoPoints(Latent):
        def code(self, number):
            return np.full(WIDTH, 2.0 * (hash(tuple(number)) % 2), dtype=np.float32)

        def predict(self, hidden, tokens):
            return np.ones_like(hidden)

    for row in measure(TwoPoints(taxi), taxi, Transition(num_sequences=300)).values():
        if row.metric == "latent_distance_ratio":
            assert row.value == pytest.approx(1 / (2 * 0.5), rel=0.1)


def test_dynamics_that_know_nothing_but_are_consistent(taxi):
    """What the probe cannot see: h is the code of the token just read."""

    class LastToken(Latent):
        def number(self, prefix):
            return prefix[-1]

        def predict(self, hidden, tokens):
            return np.stack([self.code(token) for token in tokens.tolist()])

    assert {row.value for row in measure(LastToken(taxi), taxi).values()} == {0}


def test_collapsed_hidden_states_have_no_ratio(taxi):
    class Collapsed(Latent):
        def code(self, number):
            return np.ones(WIDTH, dtype=np.float32)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = measure(Collapsed(taxi), taxi)
    for (metric, _), row in rows.items():
        assert (row.n > 0) == (metric == "kl")
        assert row.value == 0 if metric == "kl" else np.isnan([row.value, row.low, row.high]).all()


def test_an_impossible_token_makes_the_divergence_infinite(taxi):
    class Stubborn(Latent):
        def read_out(self, hidden):
            """Certain of one token, which the first feature's sign decides."""
            out = np.full((len(hidden), 2), -np.inf)
            out[np.arange(len(hidden)), (hidden[:, 0] > 0).astype(int)] = 0.0
            return out

    row = measure(Stubborn(taxi), taxi)["kl", "steps=1"]
    assert row.value == row.low == row.high == np.inf


def test_few_rows_at_a_time_make_no_difference(taxi, monkeypatch):
    whole = measure(Latent(taxi), taxi)
    monkeypatch.setattr(transition, "MAX_FLOATS", 7 * len(taxi.vocab))
    monkeypatch.setattr(_states, "ROWS_PER_CALL", 13)
    parts = measure(Latent(taxi), taxi)
    assert parts.keys() == whole.keys()
    for key, row in whole.items():
        assert parts[key].value == pytest.approx(row.value)
        assert parts[key].n == row.n


def test_no_step_beyond_the_longest_sequence(taxi):
    task = Taxi(streets=taxi.streets, max_nodes=3, min_nodes=3, radius=500)
    rows = measure(Latent(task), task, Transition(num_sequences=20, steps=9))
    assert {condition for _, condition in rows} == {f"steps={i}" for i in range(1, 10)}
    for (_, condition), row in rows.items():
        assert row.skipped_because == ("no sequence is this long" if condition > "steps=4" else "")
    last = rows["kl", "steps=4"]  # a step onto `end`, after which nothing is scored
    assert last.n == 0
    assert np.isnan(last.value)


def test_rollouts_against_every_pair():
    """Packed documents, one of which returns; padding; a document that ends with its row."""
    document = np.array([[0, 0, 0, 1, 1, -1, -1], [2, 3, 3, 3, 3, 2, 2], [-1] * 7])
    starts = [(r, t) for r, t in np.argwhere(document >= 0)]
    for i, (going, row, at) in enumerate(rollouts(document, 8), start=1):
        starts = [start for start, goes in zip(starts, going, strict=True) if goes]
        assert [(r, t + i) for r, t in starts] == list(zip(row, at, strict=True))
        expected = [
            (r, t)
            for r in range(3)
            for t in range(7 - i)
            if document[r, t] >= 0 and len(set(document[r, t : t + i + 1])) == 1
        ]
        assert starts == expected


def distance_ratio(predicted, actual, other):
    """(n, D) three times: mean ||predicted - actual|| / mean ||other - actual||."""
    error = [np.linalg.norm(a - b) for a, b in zip(predicted, actual, strict=True)]
    chance = [np.linalg.norm(a - b) for a, b in zip(other, actual, strict=True)]
    return np.mean(error) / np.mean(chance)


def test_a_ratio_and_its_interval():
    """2, 4 over 1, 1 in two units: 3 +- t; units of several trials are summed."""
    above, below = np.array([2.0, 4.0]), np.array([1.0, 1.0])
    row = ratio_measurement("kl", above, below)
    far = 12.706205 * 1.0  # t of one degree; the residuals are -1 and 1
    assert (row.value, row.low, row.high, row.n) == pytest.approx((3.0, 0.0, 3.0 + far, 2))
    unit = np.array([7, 7, 9])
    row = ratio_measurement("kl", np.array([1.0, 1.0, 4.0]), np.array([0.5, 0.5, 1.0]), "", unit)
    assert (row.value, row.high, row.n) == pytest.approx((3.0, 3.0 + far, 3))
    infinite = ratio_measurement("kl", np.array([np.inf, 1.0]), below)
    assert (infinite.value, infinite.low, infinite.high) == (np.inf, np.inf, np.inf)
    nothing = ratio_measurement("kl", above, np.zeros(2))
    assert all(np.isnan([nothing.value, nothing.low, nothing.high]))


def test_the_probe_is_the_distance_ratio(taxi, monkeypatch):
    seen = []
    formula = transition.distances
    monkeypatch.setattr(transition, "distances", lambda a, b: seen.append((a, b)) or formula(a, b))
    row = measure(Latent(taxi), taxi)["latent_distance_ratio", "steps=1"]
    (guess, actual), (other, again) = seen[:2]
    assert actual is again
    assert not (other == actual).all(axis=1).any()  # never a state with itself
    assert row.value == pytest.approx(distance_ratio(guess, actual, other))


def test_kl_divergence():
    log = np.log([[0.5, 0.5], [0.25, 0.75]])
    expected = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert kl_divergence(log[:1], log[1:]) == pytest.approx([expected])
    assert kl_divergence(log, log).tolist() == [0, 0]
    sure, other = np.array([[0.0, -np.inf]]), np.array([[-np.inf, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kl_divergence(sure, log[:1]) == pytest.approx([np.log(2)])
        assert kl_divergence(log[:1], sure).tolist() == [np.inf]
        assert kl_divergence(sure, other).tolist() == [np.inf]
        assert kl_divergence(sure, sure).tolist() == [0]


def test_subjects_without_dynamics(taxi):
    class Still(Latent):
        name = "gpt"

        def predict(self, hidden, tokens):
            return None

    with pytest.raises(NotApplicable, match="gpt predicts no next hidden state"):
        measure(Still(taxi), taxi)


def test_broken_hidden_states_are_an_error(taxi):
    class Broken(Latent):
        def code(self, number):
            return np.full(WIDTH, np.nan, dtype=np.float32)

    with pytest.raises(ValueError, match="latent: its hidden states are not finite"):
        measure(Broken(taxi), taxi)


@pytest.mark.parametrize("name", MAP_SUBJECTS)
def test_subjects_without_hidden_states(taxi, known, name):
    with pytest.raises(NotApplicable, match=f"{name} has no hidden states"):
        measure(known[name], taxi)


def test_nothing_is_changed(taxi):
    before = taxi.map.digest, taxi.sample("test", 0, 100).tokens.tobytes()
    assert measure(Latent(taxi), taxi) == measure(Latent(taxi), taxi)
    assert (taxi.map.digest, taxi.sample("test", 0, 100).tokens.tobytes()) == before


def test_parameters():
    assert registry.from_json("probes", registry.to_json(PROBE)) == PROBE
    for wrong in ({"num_sequences": 1}, {"steps": 0}):
        with pytest.raises(ValueError, match=rf"\.{next(iter(wrong))} = "):
            Transition(**wrong)
