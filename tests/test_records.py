"""Records on disk: one JSON object a line, written whole, read back the same."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import A5, PATH_STAR, accuracy, record, seeds

from nextlat_bench.report.figures import figure
from nextlat_bench.report.records import (
    Record,
    collect,
    committed,
    distinct,
    own,
    read,
    variants_of,
    write,
)
from nextlat_bench.report.tables import table

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
parameters = st.dictionaries(st.text(), json_values, max_size=3)
numbers = st.none() | st.floats() | st.integers(-(10**6), 10**6)
any_record = st.builds(
    Record,
    **{name: st.text() for name in ("run", "task", "objective", "scale", "probe", "metric")},
    **{name: st.text() for name in ("condition", "skipped_because")},
    **{f"{name}_parameters": parameters for name in ("task", "objective", "probe")},
    **dict.fromkeys(("decoder", "training"), parameters),
    **{name: st.integers() for name in ("seed", "step", "n", "n_skipped")},
    **dict.fromkeys(("value", "low", "high"), numbers),
    higher_is_better=st.none() | st.booleans(),
)


@settings(max_examples=50)
@given(any_record)
def test_records_round_trip(tmp_path_factory: pytest.TempPathFactory, one: Record) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    made = [one, replace(one, n=one.n + 1)]
    write(path, made)
    first = path.read_bytes()
    again = read(path)
    assert again == made
    write(path, again)
    assert path.read_bytes() == first


def test_a_row_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "records.jsonl", [record(value=math.nan, low=-math.inf, high=None)])
    [line] = (tmp_path / "deep" / "records.jsonl").read_text().splitlines()
    row = json.loads(line, parse_constant=pytest.fail)
    assert list(row) == [
        *("schema", "run", "task", "task_parameters", "objective", "objective_parameters"),
        *(
            "decoder",
            "training",
            "scale",
            "seed",
            "step",
            "probe",
            "probe_parameters",
            "metric",
            "higher_is_better",
        ),
        *("condition", "value", "low", "high", "n", "n_skipped", "skipped_because"),
    ]
    assert (row["schema"], row["value"], row["low"], row["high"]) == (1, None, None, None)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["records.jsonl"]


def test_bytes_do_not_depend_on_how_parameters_were_built() -> None:
    one = record(probe_parameters={"b": (1, 2), "a": np.float64(0.5)}, n=np.int64(3), value=1)
    two = record(probe_parameters={"a": 0.5, "b": [1, 2]}, n=3, value=1.0)
    assert one == two
    assert one.line == two.line


@pytest.mark.parametrize(
    "change",
    [{"n": 1.5}, {"n": True}, {"seed": "0"}, {"value": "0.9"}, {"task_parameters": [1]}],
)
def test_a_field_of_the_wrong_kind(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} = .*: expected"):
        record(**change)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write(path, [record()])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write(path, [record(), record(probe_parameters={"not JSON": object()})])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_rename_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    write(path, [record()])
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write(path, seeds(0.1, 0.2))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def as_row(**changes: Any) -> dict[str, Any]:
    return json.loads(record().line) | changes


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (record().line[:-9], "line 2: .*nextlat-bench probe"),
        ("[1]", "line 2: not a record"),
        (json.dumps(as_row(n="many")), "line 2: n = 'many': expected int.*nextlat-bench probe"),
        (json.dumps(as_row(colour="red")), "line 2: the record has unknown colour"),
        (json.dumps({"schema": 1}), "line 2: the record lacks condition, decoder, high"),
        (json.dumps({"step": 5, "loss": 0.1}), "line 2: schema = None: not a record"),
        (json.dumps(as_row(schema=2, colour="red")), "line 2: schema 2 is newer .* upgrade"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, says: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record().line + "\n" + bad + "\n")
    with pytest.raises(ValueError, match=f"records.jsonl, {says}"):
        read(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(b"\x1f\x8b\x08\xff\n")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1"):
        read(tmp_path / "records.jsonl")


def test_collect_finds_runs_and_files(tmp_path: Path) -> None:
    a, b, c = seeds(0.1, 0.2, 0.3)
    write(tmp_path / "runs" / "a" / "records.jsonl", [a])
    write(tmp_path / "runs" / "b" / "records.jsonl", [b])
    write(tmp_path / "runs" / "b" / "validation.jsonl", [c])  # not of the test split
    (tmp_path / "runs" / "unfinished").mkdir()
    write(tmp_path / "shared" / "taxi.jsonl", [c, a])  # a, measured once, stands in two files
    (tmp_path / "runs" / "a" / "run.json").write_text("{}")
    (tmp_path / "runs" / "a" / "metrics.jsonl").write_text('{"step": 1}\n')  # no records

    runs, shared = tmp_path / "runs", tmp_path / "shared"
    assert {r.run for r in collect(runs)} == {a.run, b.run}
    assert collect(runs / "a") == collect(runs / "a" / "records.jsonl") == [a]
    assert collect(runs / "b") == [b]
    assert collect(runs / "unfinished") == []
    everything = collect(runs, shared)
    assert sorted(r.run for r in everything) == sorted([a.run, b.run, c.run])
    assert collect(shared, runs) == everything
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        collect(tmp_path / "nowhere")


def test_a_run_folder_without_its_run_json_is_shown(tmp_path: Path) -> None:
    """As `show` says that it is; its log holds no records."""
    write(tmp_path / "records.jsonl", [record()])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert collect(tmp_path) == [record()]


def test_a_runs_file_that_was_merged(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert own(path) == []
    one, two = record(metric="b"), record(metric="a")
    write(path, [one, two, one])
    assert own(path) == [one, two]  # not sorted: what is measured next is written after them
    write(path, [one, two, replace(one, value=0.91)])
    with pytest.raises(ValueError, match=r"two different .*records\.jsonl\): remove one"):
        own(path)


def test_conflicting_records(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", [record()])
    write(tmp_path / "two.jsonl", [record(value=0.91)])
    says = r"run r0 has two .* trajectories legal .*one\.jsonl and .*two\.jsonl\): remove one"
    with pytest.raises(ValueError, match=says):
        collect(tmp_path)
    with pytest.raises(ValueError, match="run r0 has two different records"):
        table("taxi", [record(), record(value=0.91)])


@pytest.mark.parametrize("field", ["run", "metric", "condition", "probe"])
def test_different_measurements_do_not_conflict(field: str) -> None:
    assert len(distinct([record(), record(value=0.91, **{field: "other"})])) == 2
    assert len(distinct([record(), record(value=0.91, probe_parameters={"num_trials": 2})])) == 2


def test_committed_records_can_be_read() -> None:
    assert all(isinstance(r, Record) for r in committed())


def test_a_curriculum_is_part_of_the_recipe_not_of_the_setting() -> None:
    words = [record(task="a5", seed=0, task_parameters=A5 | {"growth": n}) for n in (0, 128_000)]
    assert words[0].setting == words[1].setting
    assert [len(group) for _, group in variants_of(words)] == [1, 1]
    longer = record(task="a5", task_parameters=A5 | {"growth": 0, "length": 24})
    assert longer.setting != words[0].setting


@pytest.mark.parametrize("field", ["step", "growth"])
def test_an_objectives_field_with_the_name_of_another_fact_counts(field: str) -> None:
    found = [record(objective="own:Own", objective_parameters={field: n}) for n in (1, 2)]
    assert [len(group) for _, group in variants_of(found)] == [1, 1]


def test_records_without_a_parameter_of_their_task() -> None:
    """As where a byte of a key was changed: a line says what is wrong, and no figure needs it."""
    lost = {key: value for key, value in PATH_STAR.items() if key != "num_train"}
    assert figure("path_star", accuracy("path_star", lost, "decode=greedy", 0.5))[0] is not None
    for wrong in ({"degree": 2}, PATH_STAR | {"num_train": "x"}, PATH_STAR | {"num_train": [1]}):
        records = accuracy("path_star", wrong, "decode=greedy", 0.5)
        with pytest.raises(ValueError, match=r"records with .* cannot be named"):
            table("path_star", records)
