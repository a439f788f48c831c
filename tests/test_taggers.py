"""Subjects of parallel tasks are what they claim to be. References read one word at a time."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextlat_bench.known import known_subject
from nextlat_bench.probes.transition import Transition
from nextlat_bench.subject import LatentSubject
from nextlat_bench.taggers import Counting, Drifting, Oracle, RunningOracle, Window
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.path_star import PathStar
from nextlat_bench.tasks.taxi import Taxi

TASK = A5()
V = 60
WORDS = TASK.of_length("test", 0, 40, 30).tokens
NAMES = ["oracle", "uniform", "forgetful", "window", "drifting", "counting"]


def product(word):
    return reduce(lambda g, x: TASK.table[g, x], word, 0)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_certain_or_uniform(name):
    subject = known_subject(name, TASK)
    assert (subject.name, subject.vocab_size) == (name, V)
    probability = np.exp(subject.log_probs(WORDS))
    assert probability.shape == (*WORDS.shape, V)
    if name == "uniform":
        np.testing.assert_allclose(probability, 1 / V)
        return
    width = {"forgetful": 2, "window": 12}.get(name, 10**6)
    for word, rows in zip(WORDS, probability, strict=True):
        for t in range(len(word)):
            answer = product(word[max(0, t + 1 - width) : t + 1])
            if name == "counting" and t >= 12:  # beyond the training length
                answer = 0
            np.testing.assert_array_equal(rows[t], np.arange(V) == answer)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_a_window_sees_its_width(width, length, n):
    words = WORDS[:n, :length]
    expected = [[product(w[max(0, t + 1 - width) : t + 1]) for t in range(length)] for w in words]
    tags = Window(TASK, width).tags(words)
    np.testing.assert_array_equal(tags, np.reshape(expected, words.shape))


def test_teacherless_paths_have_an_oracle():
    task = PathStar(degree=3, length=4, variant="teacherless")
    batch = task.sample("test", 0, 50)
    probability = np.exp(known_subject("oracle", task).log_probs(batch.tokens))
    scored = batch.targets >= 0
    row, t = np.nonzero(scored)
    assert (probability[row, t, batch.targets[row, t]] == 1).all()
    np.testing.assert_allclose(probability[~scored], 1 / len(task.vocab))
    np.testing.assert_allclose(probability.sum(axis=2), 1)
    assert not isinstance(known_subject("oracle", task), LatentSubject)


@pytest.mark.parametrize("name", NAMES)
def test_sessions_agree_with_log_probs(name):
    subject, rng = known_subject(name, TASK), np.random.default_rng(0)
    full, rows = subject.log_probs(WORDS), np.arange(len(WORDS))
    session = subject.start(WORDS[:, :3])
    for t in range(3, 20):
        np.testing.assert_array_equal(session.log_probs, full[rows, t - 1])
        if t % 5 == 0:  # rows leave, return and repeat
            chosen = rng.integers(len(rows), size=25)
            session, rows = session.select(chosen), rows[chosen]
        session.advance(WORDS[rows, t])


def test_the_oracles_dynamics_are_its_trunk():
    oracle = known_subject("oracle", TASK)
    assert isinstance(oracle, LatentSubject)
    hidden, embedding = oracle.hidden(WORDS), oracle.hidden(WORDS, "embedding")
    np.testing.assert_array_equal(embedding.argmax(axis=2), WORDS)
    assert hidden.shape == embedding.shape == (*WORDS.shape, V)
    state = hidden[:, 0]
    for t in range(WORDS.shape[1]):
        state = oracle.predict_hidden(state, WORDS[:, t]) if t else state
        np.testing.assert_array_equal(state, hidden[:, t])
        np.testing.assert_array_equal(oracle.read_out(state), oracle.log_probs(WORDS)[:, t])
    with pytest.raises(ValueError, match="reading = 'head': expected hidden or embedding"):
        oracle.hidden(WORDS, "head")


def test_drifting_dynamics_skip_one_token():
    subject = Drifting(TASK)
    words = np.array([[5, 59, 7, 59, 59, 3], [59, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 59]])
    state = subject.hidden(words[:, :1])[:, 0]
    for tokens in words.T[1:]:
        state = subject.predict_hidden(state, tokens)
    expected = [product([5, 7, 3]), product([59, 1, 2, 3, 4, 5]), product([1, 2, 3, 4, 5])]
    assert subject.read_out(state).argmax(axis=1).tolist() == expected
    assert (subject.log_probs(words) == Oracle(TASK).log_probs(words)).all()


def test_counting_states_are_the_oracles_and_a_count():
    subject, oracle = Counting(TASK), RunningOracle(TASK)
    hidden, state = subject.hidden(WORDS), subject.hidden(WORDS[:, :1])[:, 0]
    np.testing.assert_array_equal(hidden[..., :V], oracle.hidden(WORDS))
    np.testing.assert_array_equal(hidden[..., V] * 8, np.tile(np.arange(1, 31), (len(WORDS), 1)))
    assert subject.hidden(WORDS, "embedding").shape == (*WORDS.shape, V)
    for t in range(WORDS.shape[1]):
        state = subject.predict_hidden(state, WORDS[:, t]) if t else state
        np.testing.assert_array_equal(state, hidden[:, t])
        np.testing.assert_array_equal(subject.read_out(state), subject.log_probs(WORDS)[:, t])


def test_transitions_have_a_known_answer_too():
    """The oracle's follow its states exactly. Of the drifting ones, one step in sixty goes wrong,
    where a random pair of states differs 59 times in sixty."""
    rng = np.random.default_rng(0)
    rows = list(Transition(num_sequences=50).measure(RunningOracle(TASK), TASK, rng))
    assert len(rows) == 8
    assert {row.value for row in rows} == {0.0}
    ratio = next(Transition(num_sequences=500).measure(Drifting(TASK), TASK, rng))
    assert ratio.low < 1 / 59 < ratio.high


def test_unknown_names_say_what_there_is():
    with pytest.raises(ValueError, match=r"\(there are: oracle, uniform, forgetful, window, drif"):
        known_subject("history_hash", TASK)
    teacherless = PathStar(variant="teacherless")
    with pytest.raises(
        ValueError, match=r"no subject named 'window' \(there are: oracle, uniform\)"
    ):
        known_subject("window", teacherless)
    for made in (Window, RunningOracle):
        with pytest.raises(ValueError, match="the task path_star have one length"):
            made(teacherless)
    with pytest.raises(ValueError, match="answers of the task taxi are not read in parallel"):
        Oracle(Taxi())


@pytest.mark.parametrize("width", [0, -1, 2.5, True, "2"])
def test_a_window_has_a_width(width):
    with pytest.raises(ValueError, match=f"width = {width!r}: expected a positive integer"):
        Window(TASK, width)
