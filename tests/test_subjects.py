"""Subjects with known answers are what they claim to be; sessions and generation are exact.

References walk the map as plain dictionaries, one sequence at a time.
"""

import networkx as nx
import numpy as np
import pytest
from hand_maps import MAP_SUBJECTS, E, N, S, W, map_of, task_on
from scipy.stats import chisquare

from nextlat_bench.generate import choose, generate
from nextlat_bench.known import known_subject
from nextlat_bench.probes._sampling import outcomes
from nextlat_bench.scripted import Oracle
from nextlat_bench.tasks.taxi import Taxi

NAMES = sorted(MAP_SUBJECTS)


@pytest.fixture(scope="module")
def walks(taxi):
    """(24, 42) held-out walks, padded."""
    return taxi.sample("test", 0, 24).tokens


def places(taxi, streets, tokens):
    """After each of a walk's tokens but padding: its length so far, intersection, destination."""
    node, destination = tokens[:2].tolist()
    yield 2, node, destination
    for t, token in enumerate(taxi.vocab.decode(tokens)[2:], start=3):
        if token == "end":
            return
        node = streets[node][token]
        yield t, node, destination


def support(taxi, log_probs):
    return set(np.array(taxi.vocab.tokens)[np.isfinite(log_probs)])


def test_every_subject_gives_distributions(taxi, known, walks):
    assert set(known) == set(NAMES) == {known[name].name for name in NAMES}
    assert len(NAMES) == 11
    for name in NAMES:
        log_probs = known[name].log_probs(walks)
        assert log_probs.shape == (*walks.shape, len(taxi.vocab))
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=2), 1, rtol=1e-8)


def test_supports_by_the_map(taxi, known, streets, wrong_streets, walks):
    graph = nx.DiGraph([(u, v) for u, exits in enumerate(streets) for v in exits.values()])
    turns_to = dict(nx.all_pairs_shortest_path_length(graph))
    turns = {"N", "NE", "E", "SE", "S", "SW", "W", "NW"}
    log_probs = {name: known[name].log_probs(walks) for name in NAMES}
    late = 0
    for i, walk in enumerate(walks):
        wrong = walk[0].item()
        for t, node, destination in places(taxi, streets, walk):
            rows = {name: log_probs[name][i, t - 1] for name in NAMES}
            found = {name: support(taxi, row) for name, row in rows.items()}
            exits, home = set(streets[node]), node == destination
            legal = exits | ({"end"} if home else set())
            assert found["oracle"] == legal
            nearer = {
                turn
                for turn, v in streets[node].items()
                if not home and turns_to[v][destination] < turns_to[node][destination]
            }
            assert found["shortest_path_oracle"] == (nearer or {"end"})
            assert found["uniform"] == set(taxi.vocab.tokens)
            assert found["accept_everything"] == turns | {"end"}
            assert found["always_end"] == {"end"}
            assert found["legal_walker"] == exits
            assert found["history_hash"] < legal or len(exits) == 1
            assert len(found["history_hash"]) == len(legal) - (len(exits) > 1)
            assert found["noisy_state"] == turns | {"end"}
            noisy = np.exp(rows["noisy_state"])
            expected = {
                token: (1 - 0.004 * (9 - len(legal))) / len(legal) if token in legal else 0.004
                for token in turns | {"end"}
            }
            for token, probability in expected.items():
                assert noisy[taxi.vocab.ids[token]] == pytest.approx(probability)
            if t > 2 and wrong is not None:
                wrong = wrong_streets[wrong].get(taxi.vocab.tokens[walk[t - 1]])
            here = {"end"} if wrong is None else set(wrong_streets[wrong])
            assert found["wrong_map"] == here | ({"end"} if wrong == destination else set())
            # t - 1 nodes so far, of at most 40; no walk has fewer than three
            in_time = {
                turn for turn, v in streets[node].items() if t + turns_to[v][destination] <= 40
            }
            ends = {"end"} if home and t - 1 >= 3 else set()
            assert found["ideal_learner"] == in_time | ends
            late += in_time < exits
    assert late > 5


def test_forgetful_is_a_count_of_the_last_two_tokens(taxi, known, walks, followers):
    log_probs = known["forgetful"].log_probs(walks)
    unseen = 0
    for i, walk in enumerate(walks):
        tokens = taxi.vocab.decode(walk)
        for t in range(1, len(tokens) - 1):
            pair = tokens[t - 1], tokens[t]
            unseen += pair not in followers
            expected = followers.get(pair, followers[None])
            probability = np.zeros(len(taxi.vocab))
            probability[taxi.vocab.encode(list(expected))] = list(expected.values())
            np.testing.assert_allclose(np.exp(log_probs[i, t]), probability / probability.sum())
    assert unseen >= len(walks)  # a held-out pair occurs in no training sequence


def test_history_hash_forbids_by_history_not_by_state(taxi, known):
    """At one state away from the destination, every turn is forbidden about equally often."""
    world = taxi.world()
    for count in (2, 3, 4):
        node = np.flatnonzero(taxi.map.exits.sum(axis=1) == count)[0]
        states = np.full(3000, world.start(np.array([[node, node ^ 1]]))[0])
        histories = world.histories(states, 12, np.random.default_rng(0))
        histories = np.unique(histories, axis=0)  # one history, one answer
        log_probs = known["history_hash"].start(histories).log_probs
        turns = np.flatnonzero(world.legal(states[:1])[0])
        forbidden = np.isneginf(log_probs[:, turns])
        assert (forbidden.sum(axis=1) == 1).all()
        assert chisquare(forbidden.sum(axis=0)).pvalue > 1e-3


def test_a_few_streets_of_the_wrong_map_are_wrong(taxi, streets, wrong_streets):
    changed = [
        (node, turn)
        for node, exits in enumerate(streets)
        for turn in exits
        if wrong_streets[node][turn] != exits[turn]
    ]
    num_streets = taxi.map.num_edges
    assert 2 <= len(changed) <= 0.02 * num_streets
    assert [set(exits) for exits in streets] == [set(exits) for exits in wrong_streets]


def test_a_map_of_a_few_streets_is_wrong_somewhere_too():
    task = task_on(0)
    assert task.map.num_edges < 100
    wrong = known_subject("wrong_map", task).world.streets.neighbour
    assert ((wrong >= 0) == task.map.exits).all()
    assert 1 <= (wrong != task.map.neighbour).sum() <= 2


def test_from_where_nothing_leads_on_is_not_nearer():
    """A square, one way round, with a spur: from 1 to 3 go N by 2, never E to the end of it."""
    square = {(0, E): 1, (1, N): 2, (2, W): 3, (3, S): 0, (1, E): 4}
    streets = map_of([(0, 0), (100, 0), (100, 100), (0, 100), (200, 0)], square)
    task = Taxi(streets=streets, max_nodes=9, max_path=9, heldout=0.2, seed=1)
    start = known_subject("shortest_path_oracle", task).start(np.array([[1, 3]]))
    assert support(task, start.log_probs[0]) == {"N"}
    greedy = known_subject("oracle", task).start(np.array([[1, 3]])).log_probs[0]
    assert task.vocab.tokens[greedy.argmax()] == "N"


@pytest.mark.parametrize("name", NAMES)
def test_sessions_agree_with_log_probs(taxi, known, walks, name):
    subject, rng = known[name], np.random.default_rng(0)
    full = subject.log_probs(walks)
    for start in (1, 2, 7):
        session = subject.start(walks[:, :start])
        rows = np.arange(len(walks))
        for t in range(start, 14):
            np.testing.assert_array_equal(session.log_probs, full[rows, t - 1])
            if t % 3 == 0:  # rows leave, return and repeat
                chosen = rng.integers(len(rows), size=30)
                before, kept = session.log_probs.copy(), session
                session, rows = session.select(chosen), rows[chosen]
                session.advance(walks[rows, t])
                np.testing.assert_array_equal(kept.log_probs, before)
            else:
                session.advance(walks[rows, t])


def test_inside_the_prompt_and_off_the_map(taxi, known):
    end, pad = taxi.vocab.end, taxi.vocab.pad
    prompt = taxi.prompts("test", 0, 1)
    illegal = np.column_stack((prompt, prompt[:, :1]))  # a node where a turn is due
    for name in NAMES:
        subject = known[name]
        inside = np.exp(subject.start(prompt[:, :1]).log_probs)
        np.testing.assert_allclose(inside, 1 / len(taxi.vocab))
        if name not in ("uniform", "accept_everything", "forgetful"):  # they know no states
            assert support(taxi, subject.start(illegal).log_probs[0]) == {"end"}
    completions = generate(known["shortest_path_oracle"], prompt, 40, end=end, pad=pad)
    ended = np.column_stack((prompt, completions))
    assert support(taxi, known["oracle"].log_probs(ended)[0, -1]) == {"end"}


def test_unknown_subjects_and_missing_worlds(taxi):
    with pytest.raises(ValueError, match="did you mean 'oracle'"):
        known_subject("orakle", taxi)

    class Worldless(Taxi):
        def world(self):
            return None

    with pytest.raises(ValueError, match="has no world"):
        Oracle(Worldless(radius=500))


def slow_greedy(subject, prompt, max_new, end, pad):
    tokens = prompt.tolist()
    while len(tokens) < len(prompt) + max_new and tokens[-1] != end:
        log_probs = subject.log_probs(np.array([tokens]))[0, -1]
        tokens.append(int(log_probs.argmax()))
    return tokens[len(prompt) :] + [pad] * (len(prompt) + max_new - len(tokens))


@pytest.mark.parametrize("name", NAMES)
def test_greedy_generation_is_the_slow_loop(taxi, known, name):
    prompts, end, pad = taxi.prompts("test", 0, 9), taxi.vocab.end, taxi.vocab.pad
    completions = generate(known[name], prompts, 15, end=end, pad=pad, batch=4)
    slow = [slow_greedy(known[name], prompt, 15, end, pad) for prompt in prompts]
    np.testing.assert_array_equal(completions, slow)


def test_choose_samples_the_exact_distribution():
    probabilities = np.array([0.5, 0.3, 0.15, 0.04, 0.01, 0.0])
    with np.errstate(divide="ignore"):
        log_probs = np.tile(np.log(probabilities), (100_000, 1))
    rng = np.random.default_rng(0)

    def check(expected, **options):
        counts = np.bincount(choose(log_probs, rng, **options), minlength=6)
        possible = expected > 0
        assert counts[~possible].sum() == 0
        expected = expected[possible] / expected.sum() * len(log_probs)
        assert chisquare(counts[possible], expected).pvalue > 1e-3

    check(probabilities)
    check(probabilities**2, temperature=0.5)
    check(probabilities * (probabilities > 0.1), min_probability=0.1)
    assert (choose(log_probs, rng, min_probability=0.9) == 0).all()  # the likeliest stays
    halves = np.log(np.tile([0.5, 0.25, 0.25], (1_000, 1)))
    assert (choose(halves, rng, min_probability=0.25) == 0).all()  # as likely is not likelier
    assert (choose(log_probs, None) == 0).all()


def test_the_cutoff_holds_in_generation(taxi, known):
    """0.4% leaks: without the cutoff about one token in forty is illegal, with it none."""
    prompts, world = taxi.prompts("test", 0, 200), taxi.world()
    for cutoff, legal in ((0.0, False), (0.01, True)):
        rng = np.random.default_rng(0)
        session, states = known["noisy_state"].start(prompts), world.start(prompts)
        going = np.ones(len(prompts), dtype=bool)
        for _ in range(20):
            tokens = choose(session.log_probs, rng, min_probability=cutoff)
            session.advance(tokens)
            states[going] = world.advance(states[going], tokens[going])
            going &= tokens != taxi.vocab.end
        assert (world.distance(states) >= 0).all() == legal


def test_generation_is_at_its_temperature(taxi, known) -> None:
    """0.4% leaks at 1; of its tenth power nothing is left."""
    prompts, end, pad = taxi.prompts("test", 0, 100), taxi.vocab.end, taxi.vocab.pad
    for temperature, all_legal in ((1.0, False), (0.1, True)):
        how = {"rng": np.random.default_rng(0), "temperature": temperature}
        completions = generate(known["noisy_state"], prompts, 40, end=end, pad=pad, **how)
        assert outcomes(taxi.world(), prompts, completions, end)[0].all() == all_legal
