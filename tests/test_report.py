"""Records on disk, and tables as pure functions of them. Every number measured here is made up."""

import csv
import io
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nextlat_bench.report import records as rows_module
from nextlat_bench.report.records import (
    Record,
    collect,
    committed,
    distinct,
    published,
    read,
    write,
)
from nextlat_bench.report.tables import DASH, Table, names, table
from nextlat_bench.report.view import measurements_view

STREETS = {"source": "heliopolis", "digest": "0123456789abcdef" * 4}
TAXI = {"streets": STREETS, "radius": 800.0, "generator": "random", "max_nodes": 40, "seed": 0}
DETOUR = "p=0.75,replace=random"
RUN = (
    "objective",
    "objective_parameters",
    "scale",
    "step",
    "task_parameters",
    "training",
)  # decide the run


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "run": "r0",
        "task": "taxi",
        "task_parameters": TAXI,
        "objective": "nextlat",
        "objective_parameters": {"horizon": 1},
        "decoder": {"layers": 4, "width": 128},
        "training": {"steps": 2000, "learning_rate": 0.003},
        "scale": "laptop",
        "seed": 0,
        "step": 2000,
        "probe": "trajectories",
        "probe_parameters": {"num_trials": 1000},
        "metric": "legal",
        "higher_is_better": True,
        "value": 0.9,
        "low": 0.88,
        "high": 0.92,
        "n": 1000,
    }
    return Record(**(values | changes))


def seeds(*values: float | None, **changes: Any) -> list[Record]:
    """One run for each value, of seeds 0, 1, ..."""
    who = "-".join(str(changes[name]) for name in RUN if name in changes)
    return [record(run=f"r{i}-{who}", seed=i, value=v, **changes) for i, v in enumerate(values)]


# ---- records

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


@given(st.lists(any_record, max_size=4))
def test_records_round_trip(tmp_path_factory: pytest.TempPathFactory, made: list[Record]) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
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
    assert rows_module.line(one) == rows_module.line(two)


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

    monkeypatch.setattr(rows_module.os, "replace", refuse)
    with pytest.raises(PermissionError):
        write(path, seeds(0.1, 0.2))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def as_row(**changes: Any) -> dict[str, Any]:
    return json.loads(rows_module.line(record())) | changes


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (rows_module.line(record())[:-9], "line 2: .*nextlat-bench probe"),
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
    path.write_text(rows_module.line(record()) + "\n" + bad + "\n")
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
    (tmp_path / "runs" / "unfinished").mkdir()
    write(tmp_path / "shared" / "taxi.jsonl", [c, a])  # a, measured once, stands in two files
    (tmp_path / "runs" / "a" / "run.json").write_text("{}")
    (tmp_path / "runs" / "a" / "metrics.jsonl").write_text('{"step": 1}\n')  # no records

    runs, shared = tmp_path / "runs", tmp_path / "shared"
    assert {r.run for r in collect(runs)} == {a.run, b.run}
    assert collect(runs / "a") == collect(runs / "a" / "records.jsonl") == [a]
    assert collect(runs / "unfinished") == []
    everything = collect(runs, shared)
    assert sorted(r.run for r in everything) == sorted([a.run, b.run, c.run])
    assert collect(shared, runs) == everything
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        collect(tmp_path / "nowhere")


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


# ---- the taxi table


def cells(made: Table, label: str, source: str = "measured") -> dict[str, str]:
    """Heading -> text of the one row with this label and source."""
    [row] = [r for r in made.rows if (r.label, r.source) == (label, source)]
    headings = [column.heading for column in made.columns]
    return dict(zip(headings, map(" ".join, made.lines(row)), strict=True))


MADE_UP = [
    *seeds(0.90, 0.94, 0.98),
    *seeds(0.5, 0.7, metric="reached"),
    *seeds(0.61, probe="compression", metric="precision", probe_parameters={"epsilon": 0.01}),
    *seeds(60.0, probe="rank", metric="effective_rank", low=55.0, high=65.0),
    *seeds(0.8, probe="detours", condition=DETOUR, n_skipped=5, skipped_because="too_far"),
    *seeds(0.8, objective="gpt", objective_parameters={}),
    *seeds(1.0, objective="oracle", objective_parameters={}, step=0),
    *seeds(0.3, scale="smoke"),
]


def text_of(renderable: Any, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(renderable)
    return out.getvalue()


def test_one_cell_by_hand() -> None:
    made = cells(table("taxi", seeds(0.90, 0.94, 0.98)), "NextLat (d=1)")
    assert made["Valid, legal %"] == "94.0 [90.0, 98.0]"
    made = cells(table("taxi", seeds(0.9)), "NextLat (d=1)")
    assert made["Valid, legal %"] == "90.0 [88.0, 92.0]"  # the probe's own interval


def test_missing_is_a_dash_never_zero() -> None:
    made = table("taxi", MADE_UP)
    ours = cells(table("taxi", seeds(0.9)), "NextLat (d=1)")
    assert {heading: text for heading, text in ours.items() if heading != "Valid, legal %"} == {
        "Next-token %": DASH,
        "Valid, reached %": DASH,
        "Compression": DASH,
        "Latent rank": DASH,
        "Detours 0.75, legal %": DASH,
        "Detours 0.75, reached %": DASH,
    }
    assert set(cells(table("taxi", seeds(0.9)), "MTP").values()) == {DASH}
    for line in csv.DictReader(io.StringIO(made.csv())):
        assert line["value"] != "0.0"
        assert bool(line["value"]) == bool(line["seeds"]) or line["source"] == "paper"
        assert bool(line["n"]) == bool(line["n_skipped"]) == bool(line["seeds"])
    true_zero = cells(table("taxi", seeds(0.0, low=0.0, high=0.004)), "NextLat (d=1)")
    assert true_zero["Valid, legal %"] == "0.0 [0.0, 0.4]"


def test_a_seed_without_a_value_is_left_out_and_named() -> None:
    made = table("taxi", seeds(0.9, None, 0.8, skipped_because="no route"))
    assert cells(made, "NextLat (d=1)")["Valid, legal %"] == "85.0 [80.0, 90.0]"
    assert cells(made, "NextLat (d=1)", "seed 1")["Valid, legal %"] == DASH
    assert "Valid, legal %: no value for NextLat (seed 1) (no route)." in made.notes


def test_an_interval_that_is_missing_is_shown_as_missing() -> None:
    made = table("taxi", seeds(0.9, low=None, high=None))
    assert cells(made, "NextLat (d=1)")["Valid, legal %"] == f"90.0 [{DASH}, {DASH}]"
    assert f" {DASH}, {DASH} " in text_of(made.terminal())


def test_seeds_are_averaged_never_pooled() -> None:
    few, many = record(run="a", seed=0, value=0.0, n=1), record(run="b", seed=1, value=1.0, n=999)
    made = table("taxi", [few, many])
    assert cells(made, "NextLat (d=1)")["Valid, legal %"].startswith("50.0 ")
    for i, text in enumerate(("0.0", "100.0")):
        assert cells(made, "NextLat (d=1)", f"seed {i}")["Valid, legal %"].startswith(text)


def test_scales_and_settings_are_never_mixed() -> None:
    other = TAXI | {"radius": 500.0}
    made = table(
        "taxi",
        [
            *seeds(0.9),
            *seeds(0.1, scale="smoke"),
            *seeds(0.5, task_parameters=other),
            *seeds(0.3, task_parameters=TAXI | {"max_nodes": 20}),
        ],
    )
    ours = [row for row in made.rows if (row.label, row.source) == ("NextLat (d=1)", "measured")]
    assert {row.block: round(row.cells[1].value or 0) for row in ours} == {
        "laptop scale, heliopolis, radius 800 m, random walks, max_nodes=40": 90,
        "laptop scale, heliopolis, radius 800 m, random walks, max_nodes=20": 30,
        "laptop scale, heliopolis, radius 500 m, random walks": 50,
        "smoke scale, heliopolis, radius 800 m, random walks": 10,
    }
    assert [row.block.split()[0] for row in ours] == ["laptop", "laptop", "laptop", "smoke"]


def test_a_tasks_own_seed_is_no_setting() -> None:
    runs = [
        record(run=f"r{i}", seed=i, value=v, task_parameters=TAXI | {"seed": i})
        for i, v in enumerate((0.8, 1.0))
    ]
    assert cells(table("taxi", runs), "NextLat (d=1)")["Valid, legal %"] == "90.0 [80.0, 100.0]"


def test_what_differs_has_a_row_of_its_own() -> None:
    made = table(
        "taxi",
        [
            *seeds(0.1, objective_parameters={"horizon": 8}),
            *seeds(0.2),
            *seeds(0.3, step=500),
            *seeds(0.4, objective_parameters={"horizon": 1, "kl_weight": 0.5}, step=500),
            record(run="x", objective="gpt", objective_parameters={}, value=0.5),
            record(run="y", objective="gpt", objective_parameters={}, value=0.6),
            *seeds(0.7, objective="mine", objective_parameters={}),
            *seeds(0.8, objective="always_end", objective_parameters={}, step=0),
        ],
    )
    ours = {row.label: row.cells[1].value for row in made.rows if row.source == "measured"}
    assert {label: None if v is None else round(v) for label, v in ours.items()} == {
        "GPT (run=x)": 50,
        "GPT (run=y)": 60,
        "MTP": None,
        "JTP": None,
        "NextLat (d=1, kl_weight=none, step=2000)": 20,
        "NextLat (d=1, kl_weight=none, step=500)": 30,
        "NextLat (d=1, kl_weight=0.5, step=500)": 40,
        "NextLat (d=8)": 10,
        "mine": 70,
        "True world model": None,
    }
    papers = [row.label for row in made.rows if row.source == "paper"]
    assert papers == ["GPT", "MTP", "JTP", "NextLat", "True world model"]
    assert "measured but not shown: always_end." in made.notes


def test_protocols_are_never_mixed() -> None:
    def compression(value: float, run: str, **more: Any) -> Record:
        chosen = {"run": run, "seed": int(run), "probe": "compression", "metric": "precision"}
        return record(value=value, probe_parameters=more, n=more["num_states"], **chosen)

    made = table(
        "taxi",
        [
            compression(0.5, "0", protocol="precision", num_states=100),
            compression(0.7, "1", protocol="precision", num_states=100),
            compression(0.1, "0", protocol="precision", num_states=9000),
            compression(0.99, "0", protocol="released", num_states=100),
            compression(0.99, "1", protocol="released", num_states=100),
        ],
    )
    assert cells(made, "NextLat (d=1)")["Compression"] == "0.60 [0.50, 0.70]"
    assert (
        "probe compression: 9,000 trials a seed, num_states=9000, protocol=precision." in made.notes
    )


def test_a_cell_is_of_one_condition() -> None:
    detours = {"probe": "detours", "condition": DETOUR}
    made = table("taxi", [*seeds(0.8, **detours), *seeds(0.1, **detours | {"condition": "p=0.1"})])
    assert cells(made, "NextLat (d=1)")["Detours 0.75, legal %"] == "80.0 [88.0, 92.0]"
    assert cells(made, "NextLat (d=1)")["Detours 0.75, reached %"] == DASH


def test_the_papers_row() -> None:
    made = table("taxi", MADE_UP)
    papers = [row for row in made.rows if (row.label, row.source) == ("NextLat", "paper")]
    assert len(papers) == len({row.block for row in made.rows}) == 2
    for row in papers:
        texts = [" ".join(lines) for lines in made.lines(row)]
        assert texts == ["100.0", "98.7", DASH, "0.71", "52.7", "95.0", DASH]


def test_notes_say_how_it_was_measured() -> None:
    notes = "\n".join(table("taxi", MADE_UP).notes)
    for part in (
        "laptop scale, heliopolis, radius 800 m, random walks: max_nodes=40, streets.digest=",
        "streets.digest=0123456789ab, trained",
        "trained for 2,000 steps",
        ": 5 trials skipped in all (too_far)",
        "Paper (Table 1): Manhattan",
        "48 layers, 8 heads, D 384",
    ):
        assert part in notes


def test_no_records_at_all() -> None:
    made = table("taxi", [record(task="countdown")])
    assert {row.block for row in made.rows} == {"nothing measured yet"}
    assert set(cells(made, "NextLat").values()) == {DASH}
    for text in (made.markdown(), made.latex(), made.csv(), text_of(made.terminal())):
        assert "98.7" in text


def test_unknown_table() -> None:
    assert names() == ["taxi"]
    with pytest.raises(ValueError, match="no table named 'taxy'; did you mean 'taxi'"):
        table("taxy", [])


# ---- the renderers


def test_same_bytes_in_any_order() -> None:
    made = table("taxi", MADE_UP)
    for seed in range(5):
        shuffled = random.Random(seed).sample(MADE_UP, len(MADE_UP))
        again = table("taxi", shuffled + shuffled[:3])
        assert again == made
        assert again.csv() == made.csv()
        assert again.markdown() == made.markdown()
        assert again.latex() == made.latex()
        assert text_of(again.terminal()) == text_of(made.terminal())


def test_csv_is_long_and_complete() -> None:
    made = table("taxi", MADE_UP)
    frame = pd.read_csv(io.StringIO(made.csv()))
    assert len(frame) == len(made.rows) * len(made.columns)
    shown = frame[(frame.model == "NextLat (d=1)") & frame.block.str.startswith("laptop")]
    legal = shown[shown.column == "Valid, legal %"].set_index("source")
    assert legal.value.to_dict() == pytest.approx(
        {"measured": 94.0, "seed 0": 90.0, "seed 1": 94.0, "seed 2": 98.0}
    )
    assert legal.n.to_dict() == {"measured": 3000, "seed 0": 1000, "seed 1": 1000, "seed 2": 1000}
    assert (legal.low["measured"], legal.high["measured"]) == pytest.approx((90.0, 98.0))
    assert {len(line) for line in csv.reader(io.StringIO(made.csv()))} == {11}


def hostile() -> Table:
    streets = STREETS | {"source": r"my_map|50%&#{x}\~^$<a>[/b].graphml"}
    where = {"task_parameters": TAXI | {"streets": streets}}
    return table("taxi", [*seeds(0.9, 0.8, **where), *seeds(0.7, objective="a|b_c", **where)])


def test_markdown() -> None:
    text = table("taxi", MADE_UP).markdown()
    assert "| NextLat (d=1) | 3 |" in text
    assert "| NextLat (d=1), seed 2 | 1 |" in text
    assert text.count("every seed") == 2  # one for each scale
    for made in (table("taxi", MADE_UP), hostile()):
        lines = [line for line in made.markdown().splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}


def test_latex_is_well_formed() -> None:
    for made in (table("taxi", MADE_UP), hostile(), table("taxi", [])):
        text = made.latex()
        bare = re.sub(r"\\[\\{}%&#_$]", "", text)  # without escaped characters
        depth = 0
        for character in bare:
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
        assert depth == 0
        first, body = bare.split("\n", 1)
        assert first == r"% needs \usepackage{booktabs}"
        assert not set("%#_$~^|–") & set(body)  # noqa: RUF001
        begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
        assert begun == ended[::-1] == ["table", "tabular"]
        assert r"\\[" not in text  # the interval would be read as a length
        rows = [line for line in bare.splitlines() if " & " in line]
        assert {line.count(" & ") for line in rows} == {8}
        assert [rule for rule in ("toprule", "midrule", "bottomrule") if rule not in text] == []
    assert r"95\% interval" in text
    assert r"max\_nodes" in table("taxi", MADE_UP).latex()


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1", "TERM": "dumb"}])
def test_terminal_fits(environment: dict[str, str], width: int) -> None:
    gpt = {"objective": "gpt", "objective_parameters": {}}
    wide = seeds(151.2, 169.9, probe="rank", metric="effective_rank", **gpt)
    made = table("taxi", [*MADE_UP, *wide])
    console = Console(
        file=io.StringIO(), width=width, height=50, force_terminal=True, _environ=environment
    )
    console.print(made.terminal(width))
    text = console.file.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert ("\x1b" in text) == (not environment)
    assert max(map(len, plain.splitlines())) <= width
    words = set(plain.split())
    ends = ("90.0", "98.0", "151.2", "169.9")
    if width < 100:  # nothing is cut, and no number broken in two
        assert {f"90.0{DASH}", "98.0", f"151.2{DASH}", "169.9"} <= words
    else:
        assert {f"{ends[0]}{DASH}{ends[1]}", f"{ends[2]}{DASH}{ends[3]}"} <= words
    assert {"Compression", "paper", "True", "160.1", "NextLat"} <= words
    assert "3 seeds" in plain


def test_terminal_shows_names_as_they_are() -> None:
    assert r"my_map|50%&#{x}\~^$<a>[/b].graphml" in text_of(hostile().terminal(), width=200)
    long = table("taxi", seeds(0.9, objective="a" * 60))
    assert "…" not in text_of(long.terminal(70), width=70)


# ---- the view at the end of a run


def test_measurements_view() -> None:
    mine = [r for r in MADE_UP if r.objective == "nextlat" and r.seed == 0 and r.scale == "laptop"]
    mine.append(
        record(probe="detours", condition="p=0.1,replace=random", value=0.4, higher_is_better=False)
    )
    mine.append(record(probe="distinction", metric="recall", value=0.123456, low=None, high=None))
    mine.append(
        record(probe="rank", metric="width", value=128, low=128, high=128, higher_is_better=None)
    )
    oracle = [
        record(objective="oracle", value=0.995),
        record(objective="oracle", value=0.7, probe_parameters={"num_trials": 5}),
        record(objective="always_end", value=0.6),
        record(objective="oracle", value=0.5, metric="reached", task_parameters={}),
    ]
    text = text_of(measurements_view(mine, oracle))
    assert max(map(len, text.splitlines())) <= 100
    assert "taxi: NextLat (d=1), laptop scale, seed 0, 2,000 steps" in text
    [legal, _, detour] = [
        line.split() for line in text.splitlines() if line.split()[:2] == ["legal", "%"]
    ]
    assert legal == ["legal", "%", "↑", "90.0", "[88.0,", "92.0]", "98.7", "99.5", "1,000", "0"]
    assert detour[2:4] == ["p=0.1,replace=random", "↓"]
    assert detour[4:] == ["40.0", "[88.0,", "92.0]", DASH, DASH, "1,000", "0"]
    [reached] = [line.split() for line in text.splitlines() if line.split()[:1] == ["reached"]]
    assert reached[-4:] == [DASH, DASH, "1,000", "0"]
    [rank] = [line.split() for line in text.splitlines() if line.split()[:1] == ["effective"]]
    assert rank == ["effective", "rank", "↑", "60.0", "[55.0,", "65.0]", "52.7", DASH, "1,000", "0"]
    assert f"0.1235 [{DASH}, {DASH}]" in text
    assert re.search(r"width +128 \[128, 128\]", text)
    assert "- detours: too_far" in text
    assert "[95%]" in text
    assert DETOUR in text


def test_measurements_view_of_nothing_and_of_another_task() -> None:
    assert "no measurements" in text_of(measurements_view([]))
    text = text_of(measurements_view([record(task="sorting", objective="mine")]))
    assert "sorting: mine (d=1)" in text
    assert "0.9 [0.88, 0.92]" in text


# ---- the paper's numbers, typed a second time from the specification

TAXI_PAPER = {
    "gpt": (100, 97.0, 0.65, 160.1, 85.0),
    "mtp": (100, 98.1, 0.64, 57.7, 95.0),
    "jtp": (100, 97.1, 0.32, 215.8, 87.0),
    "nextlat": (100, 98.7, 0.71, 52.7, 95.0),
    "oracle": (100, 100, 1.00, None, 100),
}
PATH_STAR_PAPER = {
    "gpt": (49.4, 18.6, 12.6),
    "bst": (98.9, 99.9, 9.7),
    "mtp": (66.2, 21.2, 12.6),
    "jtp": (69.5, 47.3, 11.7),
    "nextlat": (97.1, 99.8, 94.3),
}
COUNTDOWN_PAPER = {
    ("gpt", None): 33.1,
    ("bst", None): 42.3,
    **dict(zip((("mtp", 1), ("mtp", 4), ("mtp", 8)), (39.2, 49.7, 57.3), strict=True)),
    **dict(zip((("jtp", 1), ("jtp", 4), ("jtp", 8)), (39.0, 49.4, 55.0), strict=True)),
    **dict(zip((("nextlat", 1), ("nextlat", 4), ("nextlat", 8)), (54.8, 57.6, 58.7), strict=True)),
}
LANGUAGE_PAPER = {
    ("gpt", None): (10.52, 17.93, 20.26, 58.82),
    ("jtp", 1): (11.08, 19.28, 21.88, 58.83),
    ("jtp", 2): (11.18, 19.60, 22.11, 58.63),
    ("mtp", 1): (10.90, 18.82, 20.23, 58.76),
    ("mtp", 2): (11.00, 18.61, 18.34, 58.69),
    ("nextlat", 1): (10.83, 18.39, 19.77, 58.79),
    ("nextlat", 2): (10.88, 18.44, 17.83, 59.21),
}
SPECULATIVE_PAPER = {
    ("jtp", 1): "1.46/0.96, 1.47/0.97, 1.47/0.98, 1.46/0.97",
    ("jtp", 2): "1.88/1.84, 1.90/1.89, 1.88/1.85, 1.86/1.89",
    ("mtp", 1): "1.38/0.91, 1.39/0.95, 1.40/0.97, 1.39/0.95",
    ("mtp", 2): "1.68/1.72, 1.72/1.83, 1.75/1.91, 1.72/1.84",
    ("nextlat", 1): "2.68/3.52, 2.72/3.64, 2.29/2.66, 2.30/2.72",
    ("nextlat", 2): "3.21/4.59, 3.32/4.86, 2.38/2.83, 2.87/3.94",
}
COST_PAPER = {
    ("gpt", None): (3.09, 1.32),
    ("mtp", 1): (2.80, 1.37),
    ("mtp", 2): (2.58, 1.42),
    ("mtp", 8): (1.70, 1.72),
    ("nextlat", 1): (3.09, 1.40),
    ("nextlat", 2): (2.79, 1.40),
    ("nextlat", 8): (1.73, 1.40),
}


def paper(name: str, *keys: str) -> dict[tuple[str, int | None], tuple[float | None, ...]]:
    """(objective, horizon) -> the numbers under these keys; no other number may be there."""
    found = {}
    for row in published()[name]["rows"]:
        numbers = row.keys() - {"objective", "horizon"}
        assert numbers <= set(keys)
        found[row["objective"], row.get("horizon")] = tuple(row.get(key) for key in keys)
    assert len(found) == len(published()[name]["rows"])
    return found


def test_published_numbers_are_the_papers() -> None:
    keys = ("next_token", "legal", "compression", "rank", "detour_legal")
    assert paper("taxi", *keys) == {(who, None): row for who, row in TAXI_PAPER.items()}
    graphs = ("G(2,10)", "G(5,5)", "G(7,7)")
    assert paper("path_star", *graphs) == {(who, None): row for who, row in PATH_STAR_PAPER.items()}
    assert paper("countdown", "accuracy") == {who: (v,) for who, v in COUNTDOWN_PAPER.items()}
    assert paper("language", "fw_edu", "wiki", "lambada", "accuracy") == LANGUAGE_PAPER
    assert paper("cost", "steps_per_second", "parameters") == COST_PAPER
    sets = ("wikipedia", "books", "code", "math")
    keys = tuple(f"{what}_{data}" for data in sets for what in ("speedup", "accepted"))
    assert paper("speculative_decoding", *keys) == {
        who: tuple(float(number) for number in re.split(r"[/,] ?", text))
        for who, text in SPECULATIVE_PAPER.items()
    }
    a5 = published()["a5"]
    assert (a5["training_length"], a5["test_length"]) == (12, 36)
    assert a5["rows"] == [{"objective": "nextlat", "reading": "recurrent", "accuracy_above": 95.0}]


def test_every_published_table_names_its_source() -> None:
    tables = {name: rows for name, rows in published().items() if name != "paper"}
    assert {name for name, rows in tables.items() if rows["digitised"]} == {"path_star"}
    assert all(rows["source"] and rows["protocol"] for rows in tables.values())
    assert "read off a figure" in rows_module.paper_protocol("path_star")[0]


def test_numbers_count_only_at_the_papers_horizon() -> None:
    assert rows_module.paper_row("countdown", "nextlat", 4)["accuracy"] == 57.6
    assert rows_module.paper_row("countdown", "nextlat", 2) == {}
    assert rows_module.paper_row("taxi", "nextlat", 1)["rank"] == 52.7  # has but one row


def test_report_loads_no_torch_no_tasks_no_probes() -> None:
    code = (
        "import sys, nextlat_bench.report.tables as t;"
        "t.table('taxi', []).markdown(); t.table('taxi', []).latex(); t.table('taxi', []).csv();"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'pandas', 'matplotlib')"
        " or m.startswith(('nextlat_bench.tasks', 'nextlat_bench.probes'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
