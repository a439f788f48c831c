"""`sweep --committed`: the runs of the committed records, made again from what these say."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nextlat_bench.presets import _committed as module
from nextlat_bench.presets._committed import committed_runs
from nextlat_bench.report.records import Record, committed


@pytest.fixture(scope="module")
def records() -> Sequence[Record]:
    return committed()


@pytest.fixture(autouse=True)
def read_once(records: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "committed", lambda: records)


@pytest.mark.parametrize("task", ["a5", "countdown", "language", "path_star"])
def test_runs_are_made_again_under_their_names(task: str, records: Sequence[Record]) -> None:
    """But for six that were trained before a field of theirs was there."""
    trained = {record.run for record in records if record.task == task and record.step}
    again = [run.id for run in committed_runs(task)]
    assert len(again) == len(set(again)) == len(trained) > 20
    renamed = {"a5": ["noisy_nextlat"] * 5, "countdown": ["bst"]}.get(task, [])
    assert [name.split("-")[1] for name in sorted(trained - set(again))] == renamed


def test_a_map_that_does_not_ship_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"manhattan\.graphml: no such file; --streets says where"):
        committed_runs("taxi")


def test_another_map_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "manhattan.csv"
    other.write_text("node,direction,neighbour\n0,E,1\n1,W,0\n")
    with pytest.raises(ValueError, match=r"^taxi-\S+, of the committed records: .*the map changed"):
        committed_runs("taxi", str(other))


def test_of_a_task_without_records_nothing_is_made() -> None:
    with pytest.raises(ValueError, match="no committed record is of a model trained on sudoku"):
        committed_runs("sudoku")


def test_taxi_on_its_two_maps(records: Sequence[Record]) -> None:
    path = Path(__file__).parents[2] / "shared/streets/manhattan.graphml"
    if not path.exists():
        pytest.skip("shared/streets/manhattan.graphml is not beside this checkout")
    trained = {record.run for record in records if record.task == "taxi" and record.step}
    again = committed_runs("taxi", str(path))
    assert len(again) == len(trained)
    nodes = {run.task.map.num_nodes for run in again}
    assert len(nodes) == 3  # Heliopolis and two crops
    shipped = {run.id for run in again if run.task.streets.source == "heliopolis"}
    assert len(shipped & trained) == len(shipped) >= 20
