"""Countdown's world against the list of all right answers, written out in words."""

import numpy as np
import pytest
from countdown_rules import right_answers, words_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench.generate import generate
from nextlat_bench.known import known_subject
from nextlat_bench.tasks.countdown import Countdown

PAPER = Countdown()
SMALL = Countdown(
    num_inputs=3, max_input=20, max_target=40, largest=400, num_heldout_targets=3, heldout=0.1
)


def replay(world, prompts, tokens):
    states = world.start(prompts)
    for token in tokens.T:
        states = world.advance(states, token)
    return states


def is_dead(world, states):
    return ~world.legal(states).any(axis=1) & ~world.at_goal(states) & (world.distance(states) < 0)


@given(st.integers(2, 4), st.integers(0, 10**6))
@settings(max_examples=30)
def test_legal_is_what_some_right_answer_writes(k, seed):
    rng = np.random.default_rng(seed)
    task = Countdown(num_inputs=k, largest=60, max_input=9, max_target=30, num_pauses=2)
    numbers = rng.integers(0, 10 if k < 4 else 7, size=k)
    target = int(rng.integers(0, 30))
    answers = right_answers(tuple(sorted(numbers.tolist())), target, 60)
    world = task.world()
    prompt = task.notation.write_prompts(numbers[None], np.array([target]))
    if not answers:
        assert is_dead(world, world.start(prompt)).all()
        return
    answers = sorted(answers)
    chosen = [answers[i] for i in rng.choice(len(answers), size=min(len(answers), 12))]
    tokens = np.array([task.vocab.encode(list(answer)) for answer in chosen])
    prompts = np.repeat(prompt, len(tokens), axis=0)
    states = world.start(prompts)
    for t in range(tokens.shape[1]):
        assert (world.distance(states) == tokens.shape[1] - t).all()
        assert not world.at_goal(states).any()
        legal = world.legal(states)
        assert legal.shape == (len(states), len(task.vocab))
        for answer, row in zip(chosen, legal, strict=True):
            expected = {other[t] for other in answers if other[:t] == answer[:t]}
            assert {task.vocab.tokens[token] for token in np.flatnonzero(row)} == expected
        every = np.arange(-1, len(task.vocab) + 1)
        after = world.advance(np.repeat(states[:1], len(every)), every)
        alive = np.isin(every, np.flatnonzero(legal[0]))
        np.testing.assert_array_equal(is_dead(world, after), ~alive)
        left = world.distance(after)
        assert (left == np.where(alive, tokens.shape[1] - t - 1, -1)).all()
        states = world.advance(states, tokens[:, t])
    assert world.at_goal(states).all()
    assert (world.distance(states) == 0).all()
    assert not world.legal(states).any()
    pad = np.full(len(states), task.vocab.pad)
    assert world.at_goal(world.advance(states, pad)).all()
    for token in (0, task.vocab.end, -1):
        dead = world.advance(states, np.full(len(states), token))
        assert is_dead(world, dead).all()
        assert is_dead(world, world.advance(dead, pad)).all()


@pytest.mark.parametrize("task", [SMALL, PAPER], ids=["small", "paper"])
def test_known_subjects(task):
    prompts = task.prompts("test", 0, 128)
    arguments = prompts, task.max_new_tokens
    ends = {"end": task.vocab.end, "pad": task.vocab.pad}
    oracle = known_subject("oracle", task)
    greedy, sampled = (
        generate(oracle, *arguments, **ends, rng=rng) for rng in (None, np.random.default_rng(0))
    )
    assert task.check(prompts, greedy).all()
    assert task.check(prompts, sampled).all()
    assert not np.array_equal(greedy, sampled)
    uniform = generate(
        known_subject("uniform", task), *arguments, **ends, rng=np.random.default_rng(0)
    )
    assert not task.check(prompts, uniform).any()
    for name in ("always_end", "forgetful"):
        guesses = generate(
            known_subject(name, task), *arguments, **ends, rng=np.random.default_rng(0)
        )
        assert task.check(prompts, guesses).mean() < 0.5, name


@pytest.mark.parametrize(
    "task", [SMALL, PAPER, Countdown(num_inputs=2, heldout=0.2)], ids=["small", "paper", "two"]
)
def test_histories_lead_to_the_states(task):
    world, first = task.world(), task.notation.prompt_length
    tokens = task.sample("test", 0, 200).tokens
    states = world.start(tokens[:, :first])
    rng = np.random.default_rng(0)
    for length in range(task.max_new_tokens):
        rows = world.histories(states, length, rng)
        assert rows.shape == (200, first + length)
        found = (rows != task.vocab.pad).all(axis=1)
        assert found.mean() > 0.95
        assert (rows[~found] == task.vocab.pad).all()
        inputs = rows[found, : task.num_inputs]
        assert inputs.min() >= task.min_input
        assert inputs.max() <= task.max_input
        there = replay(world, rows[found, :first], rows[found, first:])
        assert (there == states[found]).all()
        if length >= 5:
            again = world.histories(states[:1].repeat(50), length, rng)
            assert len(np.unique(again, axis=0)) > 5
        assert (world.histories(states, length + 1, rng) == task.vocab.pad).all()
        states = world.advance(states, tokens[:, first + length])
    assert (world.histories(states, task.max_new_tokens, rng) == task.vocab.pad).all()
    dead = world.advance(states, np.zeros(200, int))
    assert (world.histories(dead, 0, rng) == task.vocab.pad).all()
    for bad in (-1, 1.0, True):
        with pytest.raises(ValueError, match="length"):
            world.histories(states, bad, rng)


def test_states_forget_what_does_not_matter():
    """Two ways to the same numbers are one state, whatever the order of the inputs."""
    world = SMALL.world()
    write = SMALL.notation.write_prompts
    prompts = write(
        np.array([[2, 6, 5], [5, 6, 2], [3, 4, 5], [2, 6, 5]]), np.array([17, 17, 17, 7])
    )
    texts = ("2 * 6 = 12 ,", "6 * 2 = 12 ,", "4 * 3 = 12 ,", "6 / 2 = 3 ,")
    tokens = np.array([SMALL.vocab.encode(text.split()) for text in texts])
    states = replay(world, prompts, tokens)
    assert (states[:3] == states[0]).tolist() == [True, True, True]
    assert states[3] != states[0]
    assert is_dead(world, states[3:]).tolist() == [True], "3 and 5 make no 7"
    legal = [words_of(SMALL, np.flatnonzero(row)) for row in world.legal(states)]
    assert legal == [["5", "12"]] * 3 + [[]]


def test_no_states():
    world = PAPER.world()
    states = world.start(np.empty((0, 13), int))
    assert world.legal(states).shape == (0, len(PAPER.vocab))
    assert world.advance(states, np.empty(0, int)).shape == (0,)
    assert world.histories(states, 3, np.random.default_rng(0)).shape == (0, 16)
    assert world.distance(states).shape == world.at_goal(states).shape == (0,)


def test_a_noisy_state_leaks_no_more_than_half():
    """Of hundreds of answers each would leak 0.4%, and less than nothing would be left."""
    prompts = PAPER.prompts("test", 0, 32)
    legal = PAPER.world().legal(PAPER.world().start(prompts))
    odds = np.exp(known_subject("noisy_state", PAPER).start(prompts).log_probs)
    leaked = np.where(legal, 0, odds).sum(axis=1)
    assert (leaked > 0.3).all()
    assert (leaked <= 0.5).all()
    share = (1 - leaked) / legal.sum(axis=1)
    np.testing.assert_allclose(odds[legal], share[np.nonzero(legal)[0]])
