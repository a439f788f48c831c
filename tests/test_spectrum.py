"""The spectrum against singular values computed at once, and against the rank."""

import json
from itertools import pairwise

import numpy as np
import pytest
from coded import Coded
from hand_maps import MAP_SUBJECTS

from nextlat_bench.measure import known_identity, measure
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes.map_reconstruction import MapReconstruction
from nextlat_bench.probes.rank import Rank, effective_rank, spectrum
from nextlat_bench.probes.spectrum import Spectrum, largest

PROBE = Spectrum(num_positions=3000)


def measured(probe, subject, task):
    rows = probe.measure(subject, task, np.random.default_rng(0))
    return {(row.metric, row.condition): row for row in rows}


def hidden(task, subject):
    return np.concatenate(Rank(num_positions=3000).hidden_states(subject, task))


@pytest.mark.parametrize(
    ("width", "wanted"),
    [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])],
)
def test_which_of_them_are_kept(width, wanted):
    assert largest(width) == wanted


def test_it_is_that_of_all_hidden_states(taxi):
    subject = Coded(taxi)
    sigma = spectrum(hidden(taxi, subject))
    found = measured(PROBE, subject, taxi)
    assert len(found) == 2 * len(largest(24))
    for k in (1, 2, 4, 8, 16, 24):
        relative, share = (found[metric, f"largest={k}"] for metric in ("relative", "share"))
        assert relative.value == pytest.approx(sigma[k - 1] / sigma[0])
        assert share.value == pytest.approx(sigma[:k].sum() / sigma.sum())
        assert relative.n == share.n == 3000
        for row in (relative, share):
            assert row.low <= row.value <= row.high
    assert found["share", "largest=24"].value == pytest.approx(1)


def test_its_rank_is_that_of_the_rank(taxi):
    """The effective rank, computed from a spectrum that is recorded whole."""
    subject = Coded(taxi, width=2)
    found = measured(PROBE, subject, taxi)
    p = found["share", "largest=1"].value
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert np.exp(entropy) == pytest.approx(effective_rank(hidden(taxi, subject)))


@pytest.mark.parametrize("k", [2, 4, 16])
@pytest.mark.parametrize("metric", ["relative", "share"])
def test_its_interval_is_the_ranks_jackknife(taxi, metric, k):
    subject = Coded(taxi)
    sequences = Rank(num_positions=3000).hidden_states(subject, taxi)
    bounds = np.linspace(0, len(sequences), 11).astype(int)
    without = []
    for a, b in pairwise(bounds):
        sigma = spectrum(np.concatenate([*sequences[:a], *sequences[b:]]))
        whole = {"relative": sigma[k - 1] / sigma[0], "share": sigma[:k].sum() / sigma.sum()}
        without.append(whole[metric])
    error = np.sqrt(9 / 10 * ((without - np.mean(without)) ** 2).sum())
    row = measured(PROBE, subject, taxi)[metric, f"largest={k}"]
    for half in (row.high - row.value, row.value - row.low):
        assert half == pytest.approx(2.262 * error, rel=1e-3)


def test_few_sequences_have_no_interval_and_no_small_singular_values(taxi):
    found = measured(Spectrum(num_positions=10), Coded(taxi), taxi)
    assert all(np.isnan([row.low, row.high]).all() for row in found.values())
    assert found["relative", "largest=16"].value == 0  # ten positions
    assert found["share", "largest=16"].value == pytest.approx(1)


def test_singular_values_that_are_rounding_are_zero(taxi):
    """Whole numbers of rank two."""
    subject, rng = Coded(taxi), np.random.default_rng(0)
    places, axes = (rng.integers(-9, 10, size) for size in ((taxi.vocab.pad, 2), (2, 24)))
    subject.codes[: taxi.vocab.pad] = places @ axes
    found = measured(PROBE, subject, taxi)
    assert found["relative", "largest=2"].value > 0.01
    assert found["share", "largest=2"].value == pytest.approx(1)
    for k in (4, 8, 16, 24):
        assert found["relative", f"largest={k}"].value == 0


def test_states_that_are_nothing_have_no_spectrum_and_small_ones_that_of_large_ones(taxi):
    def values(size):
        subject = Coded(taxi)
        subject.codes[: taxi.vocab.pad] *= size
        return [row.value for row in measured(PROBE, subject, taxi).values()]

    assert np.isnan(values(0.0)).all()
    np.testing.assert_allclose(values(1e-20), values(1.0))


@pytest.mark.parametrize("name", MAP_SUBJECTS)
def test_subjects_without_hidden_states(taxi, known, name):
    with pytest.raises(NotApplicable, match=f"{name} has no hidden states"):
        measured(PROBE, known[name], taxi)


@pytest.mark.parametrize("wrong", [{"num_positions": 0}, {"positions": "scord"}])
def test_parameters(wrong):
    with pytest.raises(ValueError, match=rf"Spectrum\.{next(iter(wrong))} = "):
        Spectrum(**wrong)


def test_the_map_is_kept_beside_the_records(taxi, known, tmp_path):
    """The one that was measured; made again where it is missing, and not on another split."""
    probe = MapReconstruction(num_trials=100, temperature=1.0)
    given = known["wrong_map"], taxi, [probe], known_identity("wrong_map", taxi, "smoke")
    (tmp_path / "validation").mkdir()
    measure(*given, tmp_path / "validation", split="validation")
    assert [p.name for p in (tmp_path / "validation").iterdir()] == ["validation.jsonl"]
    rows = {r.metric: r.value for r in measure(*given, tmp_path)}
    kept = tmp_path / "map_reconstruction.json"
    found = json.loads(kept.read_text())
    assert len(found["false_edges"]) == rows["false_edges"] > 0
    assert len(found["true_edges"]) == rows["true_edges"]
    assert found["run"] == given[-1]["run"]
    first = kept.read_bytes()
    kept.unlink()
    measure(*given, tmp_path)
    assert kept.read_bytes() == first
