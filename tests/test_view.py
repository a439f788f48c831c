"""The view at the end of a run. Every number measured here is made up."""

import random
import re

import pytest
from report_records import (
    DETOUR,
    MADE_UP,
    a5_records,
    countdown_records,
    path_star_records,
    record,
    text_of,
)

from nextlat_bench.report.tables import DASH
from nextlat_bench.report.view import measurements_view


def test_measurements_view() -> None:
    mine = [r for r in MADE_UP if r.objective == "nextlat" and r.seed == 0 and r.scale == "laptop"]
    mine.append(
        record(probe="detours", condition="p=0.1,replace=random", value=0.4, higher_is_better=False)
    )
    mine.append(
        record(probe="distinction", metric="of_no_table", value=0.123456, low=None, high=None)
    )
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
    assert legal == ["legal", "%", "↑", "90.0", "[90.0,", "90.0]", "98.7", "99.5", "1,000", "0"]
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
    assert "90.0 [88.0, 92.0]" in text  # of a probe that some table shows
    text = text_of(measurements_view([record(task="sorting", probe="swaps")]))
    assert "0.9 [0.88, 0.92]" in text


def test_measurements_view_of_many_reasons() -> None:
    """One for each length: a page of them says no more than three."""
    rows = [
        record(task="sorting", probe="swaps", condition=f"n={n}", skipped_because=f"{n} too short")
        for n in range(5)
    ]
    text = text_of(measurements_view([*rows, rows[0]]))
    assert [line.strip() for line in text.splitlines() if line.strip().startswith("- ")] == [
        "- swaps: 0 too short",
        "- swaps: 1 too short",
        "- swaps: 2 too short",
        "- swaps: 2 more reasons in records.jsonl",
    ]


@pytest.mark.parametrize(("objective", "num_lines"), [("nextlat", 8), ("gpt", 3)])
def test_measurements_view_under_many_conditions(objective: str, num_lines: int) -> None:
    """Of some 150 rows, those that the table shows."""
    mine = [r for r in a5_records() if (r.objective, r.seed) == (objective, 0)]
    text = text_of(measurements_view(random.Random(0).sample(mine, len(mine))), width=140)
    lines = [line for line in text.splitlines() if "reading=" in line]
    shown = {line.partition("↑")[0].replace(" %", "").replace(" ", "") for line in lines}
    expected = {f"accuracyreading=trunk,length={k}" for k in (12, 36)} | {"reachreading=trunk"}
    if objective == "nextlat":
        expected |= {f"accuracyreading=recurrent,length={k}" for k in (12, 36, 240)}
        expected |= {"wholereading=recurrent,length=36", "reachreading=recurrent"}
        [above] = [line for line in lines if "> 95.0" in line]
        assert "accuracy %  reading=recurrent, length=36" in above
    assert shown == expected
    assert len(lines) == num_lines
    assert f"… {len(mine) - num_lines} more in records.jsonl" in text


def test_measurements_view_of_another_tasks_many_conditions() -> None:
    many = [record(task="sorting", condition=f"k={k}") for k in range(30)]
    text = text_of(measurements_view(many))
    assert [f"k={k} " in text for k in range(30)] == [k < 12 for k in range(30)]
    assert "… 18 more in records.jsonl" in text


def test_measurements_view_names_the_papers_number_of_the_same_graph_only() -> None:
    def sampled(**graph: int) -> str:
        mine = [r for r in path_star_records(**graph) if (r.objective, r.seed) == ("nextlat", 0)]
        lines = text_of(measurements_view(mine)).splitlines()
        [line] = [line for line in lines if "decode=sampled " in line]
        return line

    assert "99.8" in sampled(degree=5, num_nodes=100)
    assert "99.8" not in sampled(degree=5, num_nodes=50)


@pytest.mark.parametrize(("horizon", "papers"), [(1, "39.2"), (4, "49.7"), (8, "57.3")])
def test_measurements_view_names_the_papers_number_of_the_same_horizon(
    horizon: int, papers: str
) -> None:
    mine = [
        r
        for r in countdown_records()
        if (r.objective, r.objective_parameters.get("horizon"), r.seed) == ("mtp", horizon, 0)
    ]
    lines = text_of(measurements_view(mine), width=140).splitlines()
    [line] = [line for line in lines if "score=released" in line and "kind=heldout" in line]
    assert line.split()[-4] == papers
