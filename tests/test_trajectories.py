"""Valid trajectories on subjects whose answer is known, driven one street at a time."""

import numpy as np
import pytest

from nextlat_bench.generate import generate
from nextlat_bench.probes._sampling import outcomes
from nextlat_bench.probes.trajectories import Trajectories

PROBE = Trajectories(num_trials=300)


@pytest.fixture(scope="module")
def table(taxi, known, streets, wrong_streets, habit):
    """(legal, reached). Of equals the oracle's greedy choice leads nearer; other ties go to the
    lowest id, and every intersection has an exit before `end`: the legal walker never arrives."""

    def drive(choose):
        legal = reached = 0
        for prompt in taxi.prompts("test", 0, PROBE.num_trials):
            node, destination = prompt.tolist()
            tokens = taxi.vocab.decode(prompt)
            while len(tokens) < 2 + taxi.max_new_tokens and (turn := choose(tokens)) != "end":
                if turn not in streets[node]:
                    break
                node = streets[node][turn]
                tokens.append(turn)
            else:
                legal += 1
                reached += len(tokens) < 2 + taxi.max_new_tokens and node == destination
        return legal / PROBE.num_trials, reached / PROBE.num_trials

    def wrong_turn(tokens):
        node = int(tokens[0])
        for turn in tokens[2:]:
            node = wrong_streets[node][turn]
        return next(iter(wrong_streets[node]))

    def hashed(tokens):
        log_probs = known["history_hash"].start(taxi.vocab.encode(tokens)[None]).log_probs[0]
        return taxi.vocab.tokens[log_probs.argmax()]

    return {
        "oracle": (1, 1),
        "shortest_path_oracle": (1, 1),
        "uniform": (0, 0),
        "accept_everything": drive(lambda tokens: "N"),
        "always_end": (1, 0),
        "legal_walker": (1, 0),
        "forgetful": drive(habit),
        "history_hash": drive(hashed),
        "noisy_state": (1, 1),
        "wrong_map": drive(wrong_turn),
        "ideal_learner": (1, 1),
    }


def test_known_answers(measured, known, table):
    assert set(table) == set(known)
    assert 0 < table["forgetful"][0] < table["wrong_map"][0] < 1
    for name, (legal, reached) in table.items():
        rows = measured(PROBE, name)
        assert rows["legal", ""].value == pytest.approx(legal, abs=1e-12), name
        assert rows["reached", ""].value == pytest.approx(reached, abs=1e-12), name
        for row in rows.values():
            assert (row.n, row.n_skipped) == (300, 0)


def test_reached_is_what_the_task_calls_right(taxi, known):
    """On sampled completions, of which some arrive and some do not."""
    prompts, end, pad = taxi.prompts("test", 0, 400), taxi.vocab.end, taxi.vocab.pad
    for name in known:
        rng = np.random.default_rng(0)
        completions = generate(known[name], prompts, taxi.max_new_tokens, end=end, pad=pad, rng=rng)
        legal, reached = outcomes(taxi.world(), prompts, completions, end)
        np.testing.assert_array_equal(reached, taxi.check(prompts, completions))
        assert (legal | ~reached).all()
        assert 0 < reached.sum() < 400 or name not in ("oracle", "noisy_state")


def test_outcomes_by_hand(taxi, streets):
    """One street and `end`; three and no `end`; `end` too early; a turn that is not there; a node;
    padding, which ends nothing."""
    turn, there = next(iter(streets[0].items()))
    second, beyond = next(iter(streets[there].items()))
    third = next(iter(streets[beyond]))
    missing = next(t for t in ("N", "E", "S", "W") if t not in streets[0])
    cases = [
        ([turn, "end", "pad"], True, True),
        ([turn, second, third], True, False),
        (["end", "pad", "pad"], True, False),
        ([missing, "end", "pad"], False, False),
        (["0", "end", "pad"], False, False),
        ([turn, "pad", "end"], False, False),
    ]
    prompts = np.array([[0, there]] * len(cases))
    completions = np.array([taxi.vocab.encode(tokens) for tokens, _, _ in cases])
    legal, reached = outcomes(taxi.world(), prompts, completions, taxi.vocab.end)
    assert legal.tolist() == [case[1] for case in cases]
    assert reached.tolist() == [case[2] for case in cases]


def test_missing_prompts_are_counted(taxi, known):
    available = len(taxi.prompts("test", 0, 10**6))
    probe = Trajectories(num_trials=available + 5)
    for row in probe.measure(known["always_end"], taxi, np.random.default_rng(0)):
        assert (row.n, row.n_skipped) == (available, 5)
        assert row.skipped_because == "5 beyond the split"
