"""What is of one document goes together: saying it twice narrows no interval.

Half of the language records' prose prompts are of two documents, and each was a unit of its own.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nextlat_bench.known import known_subject
from nextlat_bench.model import build
from nextlat_bench.presets import taxi as preset
from nextlat_bench.probes._core import Measurement, Probe
from nextlat_bench.probes._intervals import ratio_measurement, share_measurement
from nextlat_bench.probes.speculation import Speculation
from nextlat_bench.probes.speculation_speed import SpeculationSpeed
from nextlat_bench.probes.teacher_forced import TeacherForced
from nextlat_bench.probes.transition import Transition
from nextlat_bench.report.statistics import wilson_interval
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import Batch, IntArray, Split
from nextlat_bench.tasks.taxi import Taxi
from nextlat_bench.trained import TrainedModel


class Twice(Taxi):
    """Each example and prompt stands twice and is a document of its own."""

    def sample(self, split: Split, start: int, n: int) -> Batch:
        once = super().sample(split, start, n // 2)
        parts = {name: np.repeat(part, 2, axis=0) for name, part in vars(once).items()}
        of = np.repeat(np.arange(n // 2), 2)[:, None]
        return Batch(**parts | {"document": np.where(parts["document"] < 0, -1, of)})

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        return np.repeat(super().prompts(split, start, n // 2), 2, axis=0)

    def clusters(self, prompts: IntArray) -> IntArray:
        return np.arange(len(prompts)) // 2


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    run = preset.run("nextlat", "smoke").override(["objective.horizon=2", "decoder.width=32"])
    built = build(run)
    for parameter in built.parameters():
        parameter.data *= 3  # answers differ
    return TrainedModel(run, built)


def measured(model: Subject, task: Taxi, probe: Probe) -> dict[str, Measurement]:
    rows = probe.measure(model, task, np.random.default_rng(0))
    return {f"{row.metric},{row.condition}": row for row in rows}


@pytest.mark.parametrize(
    ("probe", "size", "kept"),
    [
        (Speculation(drafts=(2,)), "num_prompts", ("accepted", "tau", "bound", "passes")),
        (TeacherForced(max_positions=0), "num_sequences", ("accuracy",)),
        (Transition(steps=2), "num_sequences", ("kl",)),
    ],
)
def test_the_same_twice_has_the_same_interval(
    model: TrainedModel, probe: Probe, size: str, kept: tuple[str, ...]
) -> None:
    task = model.run.task
    who = known_subject("forgetful", task) if probe.name == "teacher_forced" else model
    once = measured(who, task, replace(probe, **{size: 40}))
    twice = measured(who, Twice(**task.parameters()), replace(probe, **{size: 80}))
    names = [name for name in once if name.startswith(kept)]
    assert names
    for name in names:
        one, two = once[name], twice[name]
        assert two.n == 2 * one.n
        assert one.low < one.high
        found = [getattr(two, key) for key in ("value", "low", "high")]
        assert found == pytest.approx([one.value, one.low, one.high], abs=1e-6), name


def test_turns_of_one_document_are_one(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four turns of two documents, by hand: t of one degree of freedom."""
    plain, drafted = np.array([4.0, 4.0, 6.0, 6.0]), np.full(4, 2.0)
    monkeypatch.setattr(
        "nextlat_bench.probes.speculation_speed.timed_by_turns", lambda one, other: (plain, drafted)
    )
    probe = SpeculationSpeed(num_prompts=4, drafts=(2,), batches=(1,), repeats=4)
    row = next(probe.measure(model, Twice(**model.run.task.parameters()), np.random.default_rng(0)))
    half = 12.706 * 0.5  # values 2 and 3, standard error 1/2
    assert (row.value, row.n) == (2.5, 4)
    assert row.high == pytest.approx(2.5 + half, abs=1e-3)


def test_at_one_position_rows_of_one_document_are_one(model: TrainedModel) -> None:
    task = Twice(**model.run.task.parameters())
    probe = TeacherForced(num_sequences=200, max_positions=1)
    found = measured(known_subject("forgetful", model.run.task), task, probe)
    row = found["accuracy,position=1"]
    low, high = wilson_interval(round(200 * row.value), 200)
    assert row.high - row.low == pytest.approx(2**0.5 * (high - low), rel=0.05)


def test_both_measures_of_transitions_are_by_document(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: dict[str, int] = {}

    def spy(metric: str, above: Any, below: Any, condition: str, unit: Any) -> Measurement:
        units[metric] = len(np.unique(unit))
        return ratio_measurement(metric, above, below, condition, unit)

    monkeypatch.setattr("nextlat_bench.probes.transition.ratio_measurement", spy)
    task = Twice(**model.run.task.parameters())
    measured(model, task, Transition(num_sequences=40, steps=1))
    assert units == {"latent_distance_ratio": 20, "kl": 20}


def test_shares_of_drafts_are_by_document(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: dict[str, set[int]] = {}

    def spy(
        metric: str, hits: Any, counts: Any = None, condition: str = "", unit: Any = ()
    ) -> Measurement:
        units.setdefault(metric, set()).add(len(np.unique(unit)))
        return share_measurement(metric, hits, counts, condition=condition)

    monkeypatch.setattr("nextlat_bench.probes.speculation.share_measurement", spy)
    task = Twice(**model.run.task.parameters())
    measured(model, task, Speculation(num_prompts=40, drafts=(2,)))
    assert units == {"acceptance": {20}, "identical": {20}}
