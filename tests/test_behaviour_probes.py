"""What every probe of behaviour promises: its claims, honest counts, and a world left as it was."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from hand_maps import MAP_SUBJECTS

from nextlat_bench import registry
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.tasks.taxi import Taxi

SIZES = {
    "next_token": {"num_sequences": 200},
    "trajectories": {"num_trials": 300},
    "compression": {"num_states": 200},
    "distinction": {"num_pairs": 120, "max_boundary": 10**6},
    "detours": {"num_trials": 300, "probabilities": (0, 0.1, 0.75)},
}  # as in the probes' own tests, so that nothing is measured twice
# so near the oracle that few trials do not catch it
MORE = {("distinction", "ideal_learner"): {"num_pairs": 400, "max_boundary": 100}}
PROBES = [registry.load("probes", name)(**sizes) for name, sizes in SIZES.items()]
every_probe = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)


@every_probe
def test_catches_and_misses(measured, probe):
    """Caught: some score is clearly below the oracle's. Missed: none is, and all are near.

    Only a subject that does better than the oracle, by its purpose, is neither.
    """
    for name in sorted(set(MAP_SUBJECTS) - {"oracle"}):
        asked = replace(probe, **MORE.get((probe.name, name), {}))
        oracle, rows = measured(asked, "oracle"), measured(asked, name)
        assert rows.keys() == oracle.keys()
        below = [rows[key].high < oracle[key].low for key in oracle if rows[key].n]
        gaps = [abs(rows[key].value - oracle[key].value) for key in oracle if rows[key].n]
        if name in probe.catches:
            assert any(below), name
        elif name in probe.misses:
            assert not any(below), name
            assert max(gaps) < 0.05, name
        else:
            assert name == "shortest_path_oracle"
            assert {row.value for (metric, _), row in rows.items() if metric == "reached"} == {1}
    assert not set(probe.catches) & set(probe.misses)


@every_probe
def test_counts_add_up(measured, probe):
    asked = getattr(probe, fields(probe)[0].name)
    for name in MAP_SUBJECTS:
        for row in measured(probe, name).values():
            assert row.n + row.n_skipped == asked
            assert bool(row.n_skipped) == bool(row.skipped_because)
            assert (row.n == 0) == bool(np.isnan(row.value))
            if row.n:
                assert 0 <= row.low <= row.value <= row.high <= 1
                assert row.low < row.high


@every_probe
def test_metrics_are_those_declared(measured, probe):
    assert {metric for metric, _ in measured(probe, "oracle")} == {m.name for m in probe.metrics}
    assert probe.requires == {"world"}


@every_probe
def test_the_world_and_the_task_stay_as_they_are(taxi, known, probe):
    few = replace(probe, **{fields(probe)[0].name: 20})
    world = taxi.world()
    nodes = np.arange(taxi.map.num_nodes)
    states = world.start(np.column_stack((nodes, nodes[::-1])))
    before = taxi.map.digest, pickle.dumps(taxi), world.legal(states).tobytes()
    for name in MAP_SUBJECTS:
        list(few.measure(known[name], taxi, np.random.default_rng(0)))
    assert (taxi.map.digest, pickle.dumps(taxi), world.legal(states).tobytes()) == before


@every_probe
def test_same_generator_same_answer(taxi, known, probe):
    few = replace(probe, **{fields(probe)[0].name: 20})
    once, again = (
        list(few.measure(known["forgetful"], taxi, np.random.default_rng(3))) for _ in range(2)
    )
    assert once == again


@every_probe
def test_to_json_and_back(probe):
    assert registry.from_json("probes", registry.to_json(probe)) == probe


@every_probe
def test_a_task_without_a_world_is_not_applicable(known, probe):
    class Worldless(Taxi):
        def world(self):
            return None

    worldless = Worldless(radius=500, max_nodes=40, max_path=20, max_new=40)
    with pytest.raises(NotApplicable, match="the task taxi has no world"):
        list(probe.measure(known["oracle"], worldless, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *((name, next(iter(sizes)), 0) for name, sizes in SIZES.items()),
        ("compression", "epsilon", 0.0),
        ("compression", "protocol", "relaesed"),
        ("compression", "num_continuations", 0),
        ("distinction", "epsilon", 1.0),
        ("distinction", "max_length", 0),
        ("distinction", "max_boundary", -1),
        ("detours", "probabilities", (0.5, 1.5)),
        ("detours", "replacements", ("worst",)),
    ],
)
def test_wrong_parameters(name, field, value):
    with pytest.raises(ValueError, match=rf"\.{field} = "):
        registry.load("probes", name)(**{field: value})
