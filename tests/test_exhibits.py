"""What figures need beside records: found in run folders, kept with the committed results."""

import json
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from figure_records import small_map, taxi_records

from nextlat_bench.files import parse_json
from nextlat_bench.measure import known_identity, measure
from nextlat_bench.probes.rank import Rank
from nextlat_bench.report.exhibits import (
    MAP_FILE,
    Curve,
    Exhibits,
    collect_exhibits,
    committed_exhibits,
    curve_of,
    curve_records,
    to_json,
)
from nextlat_bench.report.records import committed
from nextlat_bench.scripted import Oracle
from nextlat_bench.tasks.taxi import Taxi

ROOT = Path(__file__).parents[1]


def log(num: int, every: int = 10) -> list[dict[str, float]]:
    return [{"step": every * (i + 1), "next_token": 1 / (i + 1), "loss": 9.0} for i in range(num)]


def run_folder(path: Path, num: int = 210) -> Path:
    path.mkdir()
    (path / "run.json").write_text("{}")
    lines = [json.dumps(row) + "\n" for row in log(num)]
    (path / "metrics.jsonl").write_text("".join(lines) + '{"step": 9999, "next_')
    (path / MAP_FILE).write_bytes(to_json(small_map(path.name)))
    return path


def test_a_curve_is_of_means_over_as_many_steps() -> None:
    curve = curve_of("r", log(200))
    assert curve is not None
    assert curve.steps == list(range(40, 2001, 40))
    losses = np.array([row["next_token"] for row in log(200)]).reshape(50, 4).mean(axis=1)
    assert curve.next_token == [pytest.approx(loss, rel=1e-3) for loss in losses]
    assert len(to_json(curve)) < 1000
    short = curve_of("r", log(3))
    assert short == Curve(run="r", steps=[10, 20, 30], next_token=[1.0, 0.5, 0.3333])
    odd = curve_of("r", log(211))
    assert odd is not None
    assert len(odd.steps) == 50
    assert odd.steps[-1] == 2110
    assert curve_of("r", []) is None


def test_those_of_run_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_folder(tmp_path / name)
    (tmp_path / "no-run").mkdir()
    (tmp_path / "no-run" / "metrics.jsonl").write_text('{"step": 1, "next_token": 1.0}\n')
    found = collect_exhibits(tmp_path)
    assert found.curves.keys() - committed_exhibits().curves.keys() == {"a", "b"}
    assert found.curves["a"].steps[-1] == 2100  # of a line cut off by a kill, nothing
    assert found.maps["b"] == small_map("b")
    (tmp_path / "a" / "records.jsonl").write_text('{"run": "as it was made"}\n')  # renamed since
    assert collect_exhibits(tmp_path).curves["as it was made"].steps == found.curves["a"].steps
    (tmp_path / "a" / "records.jsonl").unlink()
    alone = collect_exhibits(tmp_path / "a", tmp_path / "b")
    assert (alone.curves, alone.maps) == (found.curves, found.maps)
    assert collect_exhibits(tmp_path / "a" / "metrics.jsonl") == committed_exhibits()
    assert collect_exhibits(tmp_path / "nowhere") == committed_exhibits()


@dataclass(frozen=True)
class Sketching(Rank):
    """A probe whose exhibit says which of its versions made it."""

    name: ClassVar[str] = "sketching"
    made: ClassVar[list[int]] = []
    version: int = 1

    def exhibit(self, subject: Any, task: Any, rng: Any) -> dict[str, Any]:
        self.made.append(self.version)
        return {"version": self.version}


def test_an_exhibit_is_of_the_probe_that_the_records_are_of(tmp_path: Path) -> None:
    task, told = Taxi(), []
    for version in (1, 2, 2):
        measure(
            Oracle(task),
            task,
            [Sketching(version=version)],
            known_identity("oracle", task, "smoke"),
            tmp_path,
            lambda probe, done, total: told.append((probe, len(Sketching.made))),
        )
    assert json.loads((tmp_path / "sketching.json").read_text())["version"] == 2
    assert Sketching.made == [1, 2]
    # who is at work is told before the exhibit is made
    assert told == [("sketching", 0), ("done", 1), ("sketching", 1), ("done", 2), ("done", 2)]


def test_points_are_rows_of_the_run_they_are_of() -> None:
    (first, *_) = [r for r in taxi_records() if r.objective == "nextlat"]
    exhibits = Exhibits({first.run: Curve(run=first.run, steps=[5, 9], next_token=[2.0, 1.0])})
    rows = curve_records(taxi_records(), exhibits)
    assert [(r.condition, r.value) for r in rows] == [("step=5", 2.0), ("step=9", 1.0)]
    assert {(r.run, r.objective, r.probe, r.n) for r in rows} == {
        (first.run, "nextlat", "training", 1)
    }


def test_what_is_written_is_read_back() -> None:
    curve = Curve(run="r", steps=[1], next_token=[0.5])
    assert Curve(**parse_json(to_json(curve))) == curve
    assert to_json(small_map("m")).count(b"\n") == 1


@pytest.mark.parametrize("wrong", [[1, 2], ["1"], [True], [1.0]])
def test_a_curve_has_as_many_steps_as_losses(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="steps, next_token: expected as many"):
        Curve(run="r", steps=wrong, next_token=[0.5])


def test_rendering_keeps_those_of_committed_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    render = runpy.run_path(str(ROOT / "scripts" / "render.py"))
    monkeypatch.setitem(render["keep"].__globals__, "ROOT", tmp_path)
    curves = {run: Curve(run=run, steps=[1], next_token=[0.5]) for run in ("b", "a", "c", "gone")}
    exhibits = Exhibits(curves, {"a": small_map("a"), "gone": small_map("gone")})
    render["keep"](exhibits, {"a": "taxi", "b": "taxi", "c": "a5"})
    kept = {path.name: path.read_bytes() for path in (tmp_path / "results").glob("*/*")}
    assert kept == {
        "taxi.jsonl": to_json(curves["a"]) + to_json(curves["b"]),
        "a5.jsonl": to_json(curves["c"]),
        "a.json": to_json(small_map("a")),
    }


def test_the_committed_ones_are_of_committed_runs() -> None:
    runs = {record.run for record in committed()}
    exhibits = committed_exhibits()
    assert exhibits.curves.keys() <= runs
    assert exhibits.maps.keys() <= runs
    assert all(len(curve.steps) <= 50 for curve in exhibits.curves.values())
