"""Path-Star's world by the reference, and the subjects whose answers are known there."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from star_texts import arms_of, encode, parse, tasks

from nextlat_bench.generate import generate
from nextlat_bench.known import KNOWN, known_subject
from nextlat_bench.scripted import CleverHans
from nextlat_bench.tasks.path_star import PathStar, PathStarWorld
from nextlat_bench.tasks.taxi import Taxi


@given(tasks(variants=("forward", "reversed")), st.data())
@settings(max_examples=40)
def test_the_world_by_the_reference(task, data):
    world, vocab = task.world(), task.vocab
    tokens = task.sample("test", 0, 5).tokens
    prompts, path = np.split(tokens, [task.prompt_length], axis=1)
    states = world.start(prompts)
    stray = data.draw(st.integers(0, task.length))
    for position in range(task.length + 1):
        legal = world.legal(states)
        assert legal.shape == (5, len(vocab))
        np.testing.assert_array_equal(legal, np.arange(len(vocab)) == path[:, position, None])
        np.testing.assert_array_equal(world.distance(states), task.length + 1 - position)
        assert not world.at_goal(states).any()
        if position == stray:
            token = data.draw(st.integers(0, len(vocab) - 1))
            dead = world.advance(states, np.full(5, token))[path[:, position] != token]
            assert not world.legal(dead).any()
            assert not world.at_goal(dead).any()
            assert (world.distance(dead) == -1).all()
            for later in (-1, token, vocab.pad, data.draw(st.integers(0, token))):
                assert (world.advance(dead, np.full(len(dead), later)) == dead).all()
            assert len(np.unique(dead)) <= 1
        before = states.copy()
        after = world.advance(states, path[:, position])
        assert (states == before).all()
        assert (after != before).all()
        states = after
    none = world.start(prompts[:0])
    assert world.legal(none).shape == (0, len(vocab))
    assert len(task.check(prompts[:0], path[:0])) == 0
    assert world.at_goal(states).all()
    assert (world.distance(states) == 0).all()
    assert not world.legal(states).any()
    assert len(np.unique(states)) == 1
    assert (world.advance(states, np.full(5, vocab.pad)) == states).all()
    other = data.draw(st.integers(-1, vocab.end))
    assert (world.distance(world.advance(states, np.full(5, other))) == -1).all()


def test_one_graph_is_one_state():
    """Whatever the order of its edges; another goal, or other edges, are another state."""
    task = PathStar(degree=3, length=3, num_nodes=12)
    world = task.world()
    texts = ["0,1|1,2|0,3|3,4|0,5|5,6/0,4=", "5,6|3,4|0,5|1,2|0,3|0,1/0,4="]
    texts += ["0,1|1,2|0,3|3,4|0,5|5,6/0,2=", "0,1|1,2|0,3|3,4|0,5|5,7/0,4="]
    one, same, *others = world.start(np.array([encode(task, text) for text in texts]))
    assert one == same
    assert all(one != other for other in others)


@given(tasks(variants=("forward", "reversed")), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_histories_lead_to_the_state(task, seed):
    world, rng = task.world(), np.random.default_rng(seed)
    tokens = task.sample("test", 0, 12).tokens
    states, pad = world.start(tokens[:, : task.prompt_length]), task.vocab.pad
    mixed = states.copy()
    for position in range(task.length + 2):
        histories = world.histories(states, position, rng)
        assert histories.shape == (12, task.prompt_length + position)
        if position > task.length:  # the end state
            assert (histories == pad).all()
            assert (world.histories(states, position + 3, rng) == pad).all()
            break
        assert (world.histories(states, position + 1, rng) == pad).all()
        again = world.start(histories[:, : task.prompt_length])
        for written in histories[:, task.prompt_length :].T:
            again = world.advance(again, written)
        assert (again == states).all()
        mixed[position % 12] = states[position % 12]
        states = world.advance(states, tokens[:, task.prompt_length + position])
    histories = world.histories(mixed, 1, rng)
    assert ((histories != pad).all(axis=1) == (mixed["position"] == 1)).all()
    assert (histories == pad).all(axis=1).sum() == (mixed["position"] != 1).sum()
    if task.num_edges >= 6:
        assert (histories[:1] != tokens[:1, : histories.shape[1]]).any()  # in a new order
    for bad in (-1, 1.0, None):
        with pytest.raises(ValueError, match="length"):
            world.histories(states, bad, rng)


def test_two_histories_are_two_orders_of_the_edges():
    """A probe compares what follows them: if they were one, nothing could differ."""
    task = PathStar(degree=3, length=4)
    world = task.world()
    states, rng = world.start(task.prompts("test", 0, 50)), np.random.default_rng(0)
    one, other = (world.histories(states, 0, rng) for _ in range(2))
    assert (one != other).any(axis=1).all()
    assert (world.start(one) == world.start(other)).all()
    np.testing.assert_array_equal(one, world.histories(states, 0, np.random.default_rng(0)))


SHAPES = [(2, 5, 20), (5, 5, 100), (3, 2, 9), (1, 4, 8)]


@pytest.mark.parametrize("variant", ["forward", "reversed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_known_subjects(shape, variant):
    degree, length, num_nodes = shape
    task = PathStar(degree=degree, length=length, num_nodes=num_nodes, variant=variant)
    prompts, end, pad = task.prompts("test", 0, 300), task.vocab.end, task.vocab.pad
    solved = {}
    for name in KNOWN:
        if name in ("wrong_map", "ideal_learner"):
            continue
        subject = known_subject(name, task)
        log_probs = subject.log_probs(task.sample("test", 0, 4).tokens)
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=2), 1, rtol=1e-8)
        for rng in (None, np.random.default_rng(0)):
            completions = generate(subject, prompts, task.max_new_tokens, end=end, pad=pad, rng=rng)
            solved[name, rng is None] = task.check(prompts, completions).mean()
    for greedy in (True, False):
        for name in ("oracle", "shortest_path_oracle", "legal_walker", "history_hash"):
            assert solved[name, greedy] == 1
        for name in ("uniform", "always_end"):
            assert solved[name, greedy] == 0
    assert solved["noisy_state", True] == 1 > solved["noisy_state", False]


def test_clever_hans_takes_any_arm_and_follows_it():
    task = PathStar(degree=4, length=5, num_nodes=50)
    subject = known_subject("clever_hans", task)
    prompts, end, pad = task.prompts("test", 0, 4000), task.vocab.end, task.vocab.pad
    completions = generate(subject, prompts, 6, end=end, pad=pad, rng=np.random.default_rng(0))
    taken = Counter()
    for prompt, completion in zip(prompts, completions, strict=True):
        edges, start, _, _ = parse(task.text(prompt))
        arms = arms_of(edges, start)
        *path, last = completion.tolist()
        assert path[0] == start
        assert last == end
        taken[arms.index(path[1:])] += 1  # the path is one of the arms, whole
    assert chisquare(list(taken.values())).pvalue > 1e-3
    assert len(taken) == 4
    scores = task.scores(prompts, completions)
    assert scores["branch"].mean() == pytest.approx(1 / 4, abs=0.03)
    np.testing.assert_array_equal(scores["branch"], scores["answer"])

    tokens = task.sample("test", 0, 200).tokens  # teacher-forced
    log_probs = subject.log_probs(tokens)[:, task.prompt_length - 1 : -1]
    right = np.exp(np.take_along_axis(log_probs, tokens[:, task.prompt_length :, None], axis=2))
    np.testing.assert_allclose(right[:, :, 0], np.tile([1, 1 / 4, 1, 1, 1, 1], (200, 1)))

    world = PathStarWorld(task, any_arm=True)
    states = world.advance(world.start(prompts), prompts[:, -3])
    for column in completions[:, 1:4].T:
        assert (world.legal(states).sum(axis=1) == np.where(states["position"] == 1, 4, 1)).all()
        states = world.advance(states, column)
    np.testing.assert_array_equal(world.distance(states), 2)
    histories = world.histories(states, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(histories[:, -3:], completions[:, 1:4])


def test_clever_hans_elsewhere():
    """Reversed, nothing has to be decided; other tasks have no branch, and some no world."""
    task = PathStar(degree=4, variant="reversed")
    prompts = task.prompts("test", 0, 200)
    subject = known_subject("clever_hans", task)
    completions = generate(subject, prompts, 6, end=task.vocab.end, pad=task.vocab.pad)
    assert task.check(prompts, completions).all()
    with pytest.raises(ValueError, match="no branch is known of the task taxi"):
        known_subject("clever_hans", Taxi(radius=500))
    with pytest.raises(ValueError, match="PathStar has no world"):
        CleverHans(PathStar(variant="teacherless"))
    with pytest.raises(ValueError, match="no wrong map is known of the task path_star"):
        known_subject("wrong_map", task)


def test_teacherless_answers_are_the_targets():
    task = PathStar(variant="teacherless", degree=3, num_nodes=30)
    batch = task.sample("test", 0, 500)
    np.testing.assert_array_equal(task.answers(batch.tokens), batch.targets)
    assert task.parallel
    assert task.world() is None
    for variant in ("forward", "reversed"):
        other = PathStar(variant=variant)
        assert not other.parallel
        assert other.answers(other.prompts("test", 0, 2)) is None
