"""The next-token test on subjects whose answer is known, counted one position at a time."""

from dataclasses import fields, replace

import numpy as np
import pytest

from nextlat_bench.probes import _sampling, next_token
from nextlat_bench.probes._intervals import share
from nextlat_bench.probes.next_token import NextToken
from nextlat_bench.report.statistics import mean_interval, wilson_interval
from nextlat_bench.tasks.taxi import Taxi

PROBE = NextToken(num_sequences=200)


@pytest.fixture(scope="module")
def positions(taxi, streets, wrong_streets):
    """Of each held-out walk, at each scored position: its last two tokens, the legal tokens, and
    what the wrong map thinks legal (None once the walk left it)."""
    out = []
    for walk in taxi.sample("test", 0, PROBE.num_sequences).tokens:
        origin, destination, *turns = taxi.vocab.decode(walk)
        node = wrong = int(origin)
        tokens, rows = [origin, destination], []
        for turn in turns:
            home = ["end"] if node == int(destination) else []
            wrong_home = ["end"] if wrong == int(destination) else []
            believed = None if wrong is None else [*wrong_streets[wrong], *wrong_home]
            rows.append((tokens[-2:], [*streets[node], *home], believed))
            tokens.append(turn)
            if turn != "end":
                node = streets[node][turn]
                wrong = None if wrong is None else wrong_streets[wrong].get(turn)
        out.append(rows)
    return out


@pytest.fixture(scope="module")
def table(positions, habit):
    """Ties go to the lowest id: nodes before turns, N before NE, turns before `end`."""

    def share_of(best):
        right = [best(last, wrong) in legal for rows in positions for last, legal, wrong in rows]
        return np.mean(right)

    return {
        "oracle": 1,
        "shortest_path_oracle": 1,
        "uniform": 0,
        "accept_everything": share_of(lambda last, wrong: "N"),
        "always_end": share_of(lambda last, wrong: "end"),
        "legal_walker": 1,
        "forgetful": share_of(lambda last, wrong: habit(last)),
        "history_hash": 1,
        "noisy_state": 1,
        "wrong_map": share_of(lambda last, wrong: wrong[0] if wrong else "end"),
        "ideal_learner": 1,
    }


def test_known_answers(measured, known, table, positions):
    assert set(table) == set(known)
    assert 0 < table["accept_everything"] < table["always_end"] < table["forgetful"] < 1
    for name, value in table.items():
        row = measured(PROBE, name)["legal_top1", ""]
        assert row.value == pytest.approx(value, abs=1e-12), name
        assert (row.n, row.n_skipped) == (len(positions), 0)


def test_chunks_do_not_matter(taxi, known, measured, monkeypatch):
    monkeypatch.setattr(_sampling, "MAX_FLOATS", 60_000)  # nine walks at a time
    (row,) = PROBE.measure(known["forgetful"], taxi, np.random.default_rng(0))
    assert row == measured(PROBE, "forgetful")["legal_top1", ""]


def test_the_interval_is_clustered():
    rng = np.random.default_rng(0)
    hits, counts = rng.integers(5, size=50), np.full(50, 5)
    value, low, high = share(hits, counts)
    assert value == pytest.approx(hits.sum() / 250)
    # equal clusters: the mean of their shares
    np.testing.assert_allclose((low, high), mean_interval(hits / 5))
    # unequal clusters, by hand: 220 of 400, residuals 5, -5, 8, -8, each times 4 / 400;
    # SE = sqrt(178 / 3) / 200; t of 3 degrees is 3.182446
    value, low, high = share(np.array([60, 50, 52, 58]), np.array([100, 100, 80, 120]))
    far = 3.182446 * (178 / 3) ** 0.5 / 200
    assert (value, low, high) == pytest.approx((0.55, 0.55 - far, 0.55 + far))
    assert share(np.full(9, 5), np.full(9, 5)) == (1.0, *wilson_interval(9, 9))
    # a unit without a trial says nothing: two of three that agree are no more than two
    assert share(np.array([4, 0, 2]), np.array([4, 0, 2])) == (1.0, *wilson_interval(2, 2))
    assert share(np.array([0, 0, 0]), np.array([0, 0, 2])) == (0.0, *wilson_interval(0, 1))
    assert np.isnan(share(np.zeros(0), np.zeros(0))).all()


def test_coverage_of_the_interval():
    """Correlated positions: of 95% intervals, about 95% hold the truth (binomial, 4 SE)."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        counts = rng.integers(2, 40, size=80)
        skill = rng.beta(3, 1, size=80)  # mean 3/4, shared by all positions of a sequence
        _, low, high = share(rng.binomial(counts, skill), counts)
        covered += low <= 0.75 <= high
    assert abs(covered / 1000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)


def test_only_scored_positions_count(taxi):
    """The walks' own answers are legal everywhere: what counts is what is scored."""
    batch = taxi.sample("test", 0, 50)
    scored = (batch.targets >= 0) & (np.random.default_rng(0).random(batch.targets.shape) < 0.5)
    right = next_token.legal_top1(taxi.world(), batch.tokens, 2, batch.targets, scored)
    np.testing.assert_array_equal(right, scored)


def test_a_share_lies_between_0_and_1() -> None:
    """Whatever Student's t of three units says."""
    value, low, high = share(np.array([1, 0, 0]), np.full(3, 2))
    assert value == pytest.approx(1 / 6)
    assert low == 0 < value < high < 1
    value, low, high = share(np.array([1, 2, 2]), np.full(3, 2))
    assert 0 < low < value < high == 1


def test_a_position_inside_the_prompt_never_counts(taxi, known) -> None:
    class Whole(Taxi):
        def sample(self, split, start, n):
            batch = super().sample(split, start, n)
            targets = batch.targets.copy()
            targets[:, 0] = batch.tokens[:, 1]  # the destination after the origin
            return replace(batch, targets=targets)

    task = Whole(**{f.name: getattr(taxi, f.name) for f in fields(taxi)})
    (row,) = NextToken(num_sequences=50).measure(known["oracle"], task, np.random.default_rng(0))
    assert row.value == 1
