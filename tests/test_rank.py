"""Effective rank: answers known in closed form, and the probe against the formula itself."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from coded import Coded
from hand_maps import MAP_SUBJECTS

from nextlat_bench import registry
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.rank import (
    Moments,
    Rank,
    effective_rank,
    participation_ratio,
    spectrum,
    stack,
)
from nextlat_bench.tasks.taxi import Taxi

PROBE = Rank(num_positions=3000)


def measure(probe, subject, task):
    return {row.metric: row for row in probe.measure(subject, task, np.random.default_rng(0))}


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (np.eye(8), 8),
        (np.ones((8, 8)), 1),
        (np.ones((2000, 64), dtype=np.float32), 1),
        (np.diag([3.0, 1.0]), 1.754765),
        # 5.03 would mean that the entropy was taken of sigma squared
        (np.diag(1 / np.arange(1, 385)), 97.32),
        (np.zeros((5, 3)), 0),
    ],
)
def test_known_effective_ranks(hidden, expected):
    assert effective_rank(hidden) == pytest.approx(expected, abs=5e-3 if expected > 90 else 1e-6)


def test_normal_hidden_states_of_the_papers_size():
    hidden = np.random.default_rng(0).standard_normal((65_536, 384))
    assert effective_rank(hidden) == pytest.approx(383.7, abs=0.05)
    hidden += 10
    assert effective_rank(hidden) == pytest.approx(96.9, abs=0.5)
    assert effective_rank(hidden, centred=True) == pytest.approx(383.7, abs=0.05)


def test_known_participation_ratios():
    plus_minus = np.concatenate([np.diag([3.0, 1.0]), -np.diag([3.0, 1.0])])
    assert participation_ratio(plus_minus) == pytest.approx((9 + 1) ** 2 / (81 + 1))
    assert participation_ratio(np.diag([3.0, 1.0]), centred=False) == pytest.approx(100 / 82)
    assert participation_ratio(np.ones((9, 4))) == 0
    assert participation_ratio(1e200 * plus_minus) == pytest.approx(100 / 82)


def test_the_definition_by_another_route():
    hidden = np.random.default_rng(1).standard_normal((50, 7)) @ np.diag([9, 5, 3, 2, 1, 1, 0.1])
    sigma = np.sqrt(np.linalg.eigvalsh(hidden.T @ hidden))[::-1]
    np.testing.assert_allclose(spectrum(hidden), sigma)
    entropy = sum(-s / sigma.sum() * np.log(s / sigma.sum()) for s in sigma)
    assert effective_rank(hidden) == pytest.approx(np.exp(entropy))


def test_small_singular_values_are_not_lost():
    """The eigenvalues of the Gram matrix would make noise of about 1e-8 out of the last one."""
    sigma = np.array([1.0, 1e-5, 1e-10])
    hidden = rotation(300)[:, :3] * sigma @ rotation(3)
    np.testing.assert_allclose(spectrum(hidden), sigma, rtol=1e-4)


def test_invariances():
    hidden = np.random.default_rng(2).standard_normal((200, 12)) + np.arange(12)
    for formula in (effective_rank, participation_ratio):
        value = formula(hidden)
        assert formula(1e6 * hidden) == pytest.approx(value)
        assert formula(hidden[::-1] @ rotation(12)) == pytest.approx(value)
        assert 1 <= value <= 12
    assert effective_rank(hidden + 100, centred=True) == pytest.approx(effective_rank(hidden, True))
    assert effective_rank(hidden + 100) < 0.5 * effective_rank(hidden)


@pytest.mark.parametrize("centred", [False, True])
def test_groups_together_have_the_spectrum_of_their_rows(centred):
    """Groups of unlike sizes and means, one smaller than D."""
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal((n, 6)) + 5 * rng.standard_normal(6) for n in (3, 400, 50)]
    found = spectrum(stack([Moments.of(group) for group in rows], centred))[:6]
    np.testing.assert_allclose(found, spectrum(np.concatenate(rows), centred))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_error(bad):
    hidden = np.ones((4, 3))
    hidden[1, 1] = bad
    for formula in (spectrum, effective_rank, participation_ratio):
        with pytest.raises(ValueError, match="1 hidden values are not finite"):
            formula(hidden)
    for empty in (np.ones((0, 3)), np.ones(3)):
        with pytest.raises(ValueError, match="expected"):
            effective_rank(empty)


def rows_of(task, subject, positions, count):
    """Position by position: the hidden states that the probe must use, and their sequences."""
    rows, sequences = [], []
    batch = task.sample("test", 0, 1000)
    for i, tokens in enumerate(batch.tokens.tolist()):
        for t, token in enumerate(tokens):
            # a walk is scored from its destination on, and up to the token before `end`
            scored = t >= 1 and token not in (task.vocab.end, task.vocab.pad)
            wanted = {"all": token != task.vocab.pad, "scored": scored, "prompt": t == 0}
            if wanted[positions] and len(rows) < count:
                rows.append(subject.codes[token].astype(np.float32))
                sequences.append(i)
    return np.array(rows), np.array(sequences)


@pytest.mark.parametrize(("positions", "count"), [("all", 3000), ("scored", 3000), ("prompt", 500)])
def test_the_probe_is_the_formula_of_held_out_positions(taxi, positions, count):
    subject = Coded(taxi)
    rows, _ = rows_of(taxi, subject, positions, count)
    assert len(rows) == count
    found = measure(Rank(num_positions=count, positions=positions), subject, taxi)
    assert found["effective_rank"].value == pytest.approx(effective_rank(rows))
    assert found["effective_rank_centred"].value == pytest.approx(effective_rank(rows, True))
    assert found["participation_ratio"].value == pytest.approx(participation_ratio(rows))
    codes = subject.codes
    subject.codes = np.nan_to_num(subject.embeddings)
    tokens, _ = rows_of(taxi, subject, positions, count)
    subject.codes = codes
    assert found["effective_rank_embedding"].value == pytest.approx(effective_rank(tokens))
    assert found["effective_rank_embedding"].value != found["effective_rank"].value
    assert found["width"].value == 24
    assert {row.n for row in found.values()} == {count}
    assert set(found) == {metric.name for metric in Rank.metrics}


def test_the_interval_is_a_jackknife_over_groups_of_sequences(taxi):
    subject = Coded(taxi)
    rows, sequences = rows_of(taxi, subject, "all", 3000)
    num = sequences.max() + 1
    group = np.searchsorted((np.arange(1, 11) * num / 10).astype(int), sequences, side="right")
    without = np.array([effective_rank(rows[group != g]) for g in range(10)])
    error = np.sqrt(9 / 10 * ((without - without.mean()) ** 2).sum())
    row = measure(PROBE, subject, taxi)["effective_rank"]
    assert row.high - row.value == pytest.approx(2.262 * error, rel=1e-3)
    assert row.value - row.low == pytest.approx(2.262 * error, rel=1e-3)


def test_few_sequences_have_no_interval(taxi):
    row = measure(Rank(num_positions=20), Coded(taxi), taxi)["effective_rank"]
    assert row.n == 20
    assert row.value > 1
    assert np.isnan([row.low, row.high]).all()


def test_collapsed_hidden_states(taxi):
    subject = Coded(taxi)
    subject.codes[: taxi.vocab.pad] = 0.5
    found = measure(PROBE, subject, taxi)
    values = [found[name].value for name in ("effective_rank", "effective_rank_centred")]
    assert values == pytest.approx([1, 0])


def test_broken_hidden_states_are_an_error(taxi):
    subject = Coded(taxi)
    subject.codes[3, 3] = np.inf
    with pytest.raises(ValueError, match="coded: its hidden states are not finite"):
        measure(PROBE, subject, taxi)


@pytest.mark.parametrize("name", MAP_SUBJECTS)
def test_subjects_without_hidden_states(taxi, known, name):
    with pytest.raises(NotApplicable, match=f"{name} has no hidden states"):
        measure(PROBE, known[name], taxi)


def test_a_task_without_such_positions(taxi):
    class AllScored(Taxi):
        def sample(self, split, start, n):
            batch = super().sample(split, start, n)
            return replace(batch, targets=np.where(batch.document >= 0, 0, -1))

    task = AllScored(radius=500, max_nodes=40, max_path=20, max_new=40)
    with pytest.raises(NotApplicable, match="taxi has no 'prompt' positions"):
        measure(Rank(positions="prompt"), Coded(task), task)


def test_nothing_is_changed_and_nothing_is_random(taxi):
    before = taxi.map.digest, taxi.sample("test", 0, 100).tokens.tobytes()
    rng = np.random.default_rng(5)
    once, again = (list(PROBE.measure(Coded(taxi), taxi, rng)) for _ in range(2))
    assert once == again
    assert (taxi.map.digest, taxi.sample("test", 0, 100).tokens.tobytes()) == before


def test_parameters():
    assert registry.from_json("probes", registry.to_json(PROBE)) == PROBE
    for wrong in ({"num_positions": 0}, {"positions": "scord"}):
        with pytest.raises(ValueError, match=rf"\.{next(iter(wrong))} = "):
            Rank(**wrong)


def test_the_formulas_load_nothing_heavy():
    code = "import sys; import nextlat_bench.probes.rank, nextlat_bench.probes.state_probe; "
    code += "import nextlat_bench.probes.transition, nextlat_bench.probes.map_reconstruction; "
    code += "print([m for m in ('torch', 'sklearn', 'matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
