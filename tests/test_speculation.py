"""The probes of drafts, beside what the traces say, and the table that they fill."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_records import record, text_of

from nextlat_bench.known import known_subject
from nextlat_bench.measure import measure, run_identity
from nextlat_bench.model import build
from nextlat_bench.presets import a5
from nextlat_bench.presets import taxi as preset
from nextlat_bench.probes._core import NotApplicable
from nextlat_bench.probes._intervals import ratio_measurement
from nextlat_bench.probes.speculation import Speculation
from nextlat_bench.probes.speculation_speed import SpeculationSpeed, part, timed_by_turns
from nextlat_bench.report.records import record_file
from nextlat_bench.report.tables import table
from nextlat_bench.speculate import speculate
from nextlat_bench.tasks._core import IntArray
from nextlat_bench.tasks.taxi import Taxi
from nextlat_bench.trained import TrainedModel

PROBE = Speculation(num_prompts=60, drafts=(1, 3), threshold=0.2)


class Divided(Taxi):
    """Two kinds of prompts, as many of each."""

    def kinds(self, prompts: IntArray) -> np.ndarray:
        return np.where(np.arange(len(prompts)) % 2 == 0, "even", "odd")


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    run = preset.run("jtp", "smoke").override(["objective.horizon=2", "decoder.width=32"])
    built = build(run)
    for parameter in built.parameters():
        parameter.data += 0.05
    return TrainedModel(run, built)


def test_every_number_follows_from_the_traces(model: TrainedModel) -> None:
    task = Divided(**model.run.task.parameters())
    rows = list(PROBE.measure(model, task, np.random.default_rng(0)))
    found = {(row.metric, row.condition): row for row in rows}
    prompts = task.prompts("test", 0, 60)
    end, pad = task.vocab.end, task.vocab.pad
    for k, kind, here in ((1, "even", prompts[::2]), (3, "odd", prompts[1::2])):
        out, trace = speculate(model, here, task.max_new, end=end, pad=pad, draft=k)
        where, rounds = f"draft={k},kind={kind}", list(zip(trace.drafted, trace.accepted))  # noqa: B905
        drafted = [int(d) for row, _ in rounds for d in row if d >= 0]
        accepted = [int(a) for _, row in rounds for a in row if a >= 0]
        tokens = int((out != pad).sum())
        wanted = {
            "accepted": sum(accepted) / len(accepted),
            "tau": (tokens - len(here)) / len(accepted),
            "bound": sum(drafted) / len(drafted) + 1,
            "passes_per_token": (len(here) + len(accepted)) / tokens,
            "identical": 1.0,
        }
        for metric, value in wanted.items():
            row = found[metric, where]
            assert row.value == pytest.approx(value), metric
            assert row.low <= row.value <= row.high
            assert row.n == 30
        assert wanted["accepted"] < wanted["tau"] <= wanted["bound"] <= min(k, 2) + 1
        for i in range(1, min(k, 2) + 1):
            share = sum(a >= i for a in accepted) / sum(d >= i for d in drafted)
            assert found["acceptance", f"{where},position={i}"].value == pytest.approx(share)
        assert ("acceptance", f"{where},position=3") not in found  # the horizon is 2
    conditions = {row.condition.partition(",position")[0] for row in rows}
    assert len(conditions) == 3 * 2  # 1, 3 and adaptive, of each kind


def test_measuring_again_gives_the_same_bytes(model: TrainedModel, tmp_path: Path) -> None:
    for probe in (PROBE, Speculation(num_prompts=40, drafts=(2,), sampled=True)):
        content = []
        for folder in ("a", "b"):
            measure(model, model.run.task, [probe], run_identity(model.run), tmp_path / folder)
            content.append((tmp_path / folder / record_file("test")).read_bytes())
        assert content[0] == content[1]
        assert content[0]


def test_speed_is_of_the_same_work_by_turns(model: TrainedModel) -> None:
    probe = SpeculationSpeed(num_prompts=40, drafts=(2,), batches=(1, 8), repeats=3)
    world = Divided(**model.run.task.parameters())
    rows = list(probe.measure(model, world, np.random.default_rng(0)))
    assert [row.condition for row in rows] == [
        f"draft={draft},batch={batch},kind={kind}"
        for kind in ("even", "odd")
        for draft in ("2", "adaptive")
        for batch in (1, 8)
    ]
    assert all(row.low <= row.value <= row.high and row.value > 0 and row.n == 3 for row in rows)
    undivided = probe.measure(model, model.run.task, np.random.default_rng(0))
    assert next(undivided).condition == "draft=2,batch=1"


def test_each_turn_takes_the_next_prompts(model: TrainedModel) -> None:
    case = next(PROBE.cases(model, model.run.task))._replace(prompts=np.arange(10)[:, None])
    turns = [part(case, turn * 4, 4).prompts.ravel().tolist() for turn in range(3)]
    assert turns == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]


def test_turns_alternate_and_the_first_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on with each thing that is done."""
    seen: list[str] = []
    monkeypatch.setattr(time, "perf_counter", lambda: float(len(seen)))
    one = [lambda: seen.append("a"), lambda: seen.append("b"), lambda: seen.extend("...")]
    other = [lambda: seen.append("A"), lambda: seen.append("B"), lambda: seen.append("C")]
    plain, speculative = timed_by_turns(one, other)
    assert "".join(seen) == "aA" + "aA" + "Bb" + "...C"
    assert plain.tolist() == [1, 1, 3]
    assert speculative.tolist() == [1, 1, 1]


def test_the_ratio_over_prompts() -> None:
    row = ratio_measurement("accepted", np.array([4, 0, 2]), np.array([2, 2, 1]), "draft=4")
    assert (row.value, row.n, row.condition) == (1.2, 3, "draft=4")
    none = ratio_measurement("accepted", np.array([0]), np.array([0]), "")
    assert np.isnan(none.value)


def test_what_does_not_apply_says_so(model: TrainedModel, taxi: Taxi) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NotApplicable, match="oracle drafts nothing"):
        next(PROBE.measure(known_subject("oracle", taxi), taxi, rng))
    tagger = a5.run("nextlat", "smoke", 0)
    with pytest.raises(NotApplicable, match="a5 are read in parallel"):
        next(PROBE.measure(TrainedModel(tagger, build(tagger)), tagger.task, rng))


def test_table_3_has_ours_beside_the_papers() -> None:
    where = {"task": "language", "objective": "nextlat", "objective_parameters": {"horizon": 1}}
    where |= {"task_parameters": {}, "low": 0.1, "high": 9.0}
    accepted = where | {"probe": "speculation", "metric": "accepted"}
    speedup = where | {"probe": "speculation_speed", "metric": "speedup"}
    rounds = where | {"probe": "speculation", "condition": "draft=5,kind=code"}
    records = [
        record(**rounds, metric="tau", value=2.4),
        record(**rounds, metric="bound", value=5.9, higher_is_better=None),
        record(**accepted, value=2.5, condition="draft=5,kind=prose"),
        record(**accepted, value=1.5, condition="draft=2,kind=prose"),  # in no column
        record(**speedup, value=1.75, condition="draft=5,batch=1,kind=code"),
    ]
    made = table("speculation", records)
    rows = {(row.label, row.source): row for row in made.rows}
    headings = [column.heading for column in made.columns]
    ours = dict(zip(headings, rows["NextLat (d=1)", "measured"].cells, strict=True))
    assert ours["Accepted, prose"].value == 2.5
    assert ours["Speed-up, code"].value == 1.75
    assert ours["Accepted, math"].value is None
    assert (ours["Tau, code"].value, ours["Tau at most, code"].value) == (2.4, 5.9)
    paper = dict(zip(headings, rows["NextLat (d=1)", "paper"].cells, strict=True))
    assert (paper["Accepted, prose"].value, paper["Speed-up, math"].value) == (3.52, 2.30)
    assert "1.88" in text_of(made.terminal())  # JTP, d = 2


def test_the_adaptive_draft_stops_at_the_probes_threshold(model: TrainedModel) -> None:
    probe = Speculation(num_prompts=60, threshold=1.0)
    *_, fixed, adaptive = probe.cases(model, model.run.task)
    assert (fixed.condition, adaptive.condition) == ("draft=10", "draft=adaptive")
    assert fixed.speculatively()[1].drafted.max() > 1
    assert adaptive.speculatively()[1].drafted.max() == 1  # the unsure token itself


def test_no_prompt_is_timed_twice_while_there_are_others(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[IntArray] = []

    def spy(one: Any, other: Any) -> Any:
        seen.extend(turn.__self__.prompts for turn in one)
        assert [{turn.__name__ for turn in turns} for turns in (one, other)] == [
            {"plainly"},
            {"speculatively"},
        ]
        return np.ones(len(one)), np.ones(len(one))

    monkeypatch.setattr("nextlat_bench.probes.speculation_speed.timed_by_turns", spy)
    probe = SpeculationSpeed(num_prompts=24, drafts=(2,), batches=(8,), repeats=3)
    next(probe.measure(model, model.run.task, np.random.default_rng(0)))
    np.testing.assert_array_equal(np.concatenate(seen), model.run.task.prompts("test", 0, 24))
