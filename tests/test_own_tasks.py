"""Tables and figures of a task of one's own, which no layout knows. Every number is made up."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from html_pages import parsed
from real_runs import here
from report_records import MADE_UP, of, seeds, text_of

from nextlat_bench.report import contents
from nextlat_bench.report.exhibits import Curve, Exhibits
from nextlat_bench.report.figures import figure, figures_of
from nextlat_bench.report.figures.style import LOOKS, look
from nextlat_bench.report.page import page
from nextlat_bench.report.records import Record, write
from nextlat_bench.report.tables import Table, table

LIFT = {"task": "lift", "task_parameters": {"floors": 9}}


def lift_records() -> list[Record]:
    found = []
    for who, value in (("gpt", 0.5), ("nextlat", 0.7), ("look_back", 0.6)):
        mine = LIFT | of(who, 1 if who == "nextlat" else None)
        found += seeds(value, value + 0.1, **mine)
        found += seeds(value, value + 0.1, **mine, probe="leak:Leak", metric="p")
        for k in range(9):  # too many to have a column each
            found += seeds(
                value, **mine, probe="spectrum", metric="relative", condition=f"largest={k}"
            )
    return found


def test_all_that_was_measured_has_a_column_and_seeds_are_pooled() -> None:
    made = table("lift", [*lift_records(), *MADE_UP])
    assert [c.heading for c in made.columns] == ["leak:Leak, p", "trajectories, legal %"]
    means = [row for row in made.rows if row.source == "measured"]
    assert [row.label for row in means] == ["GPT", "NextLat (d=1)", "look_back"]
    assert [row.num_seeds for row in means] == [2, 2, 2]
    assert made.lines(means[1])[1][0] == "75.0"
    assert made.lines(means[1])[0][0] == "0.75"
    for text in (made.markdown(), made.latex(), text_of(made.terminal(60))):
        assert "look" in text
    assert table("lift", [*MADE_UP, *lift_records()[::-1]]).csv() == made.csv()


def test_variants_stand_in_the_order_of_their_settings() -> None:
    """Whatever they were called and when they were measured: numbers as such, 9 before 10."""
    tried = [(1, 0.01), (1, 0.04), (2, 0.01), (9, 0.02), (10, 0.01)]
    rows = []
    for horizon, rate in tried[::-1]:
        training = {"steps": 2000, "rate": rate}
        rows += seeds(rate, **LIFT | of("nextlat", horizon), training=training)
    found = [row.variant for row in table("lift", rows).rows if row.source == "measured"]
    assert [(v["horizon"], v["training.rate"]) for v in found] == tried


def test_what_does_not_apply_is_no_condition() -> None:
    """The oracle has no hidden states: its row without a condition is not one more of them."""

    def probed(*conditions: str) -> list[Record]:
        mine = {**LIFT, "probe": "board", "metric": "squares", "n": 0}
        none = seeds(None, **mine | {"objective": "oracle"}, skipped_because="no hidden states")
        return none + [r for c in conditions for r in seeds(0.5, **mine, condition=c)]

    def headings(*conditions: str) -> list[str]:
        return [c.heading for c in table("lift", probed(*conditions)).columns]

    assert headings(*"abcd") == [f"board, squares, {c}" for c in "abcd"]
    assert headings(*"abcde") == []  # rather than a column of dashes
    assert headings(*"abcde", "") == headings() == ["board, squares"]


def test_it_stands_among_all_tables() -> None:
    rows = lift_records()
    assert set(contents.names(rows)) - set(contents.names()) == {"lift"}
    assert isinstance(contents.made("lift", rows), Table)
    assert "lift: what was measured" in page(rows, exhibits=Exhibits({}, {}))
    with pytest.raises(ValueError, match="no table named 'lift'"):
        contents.made("lift", MADE_UP)


def test_its_figures() -> None:
    rows = lift_records()
    assert figures_of("lift", rows) == ["lift_spectrum", "lift_training"]
    assert figures_of("lift") == figures_of("claims", rows) == []
    drawn, its = figure("lift_spectrum", rows, Exhibits({}, {}))
    assert drawn is not None
    assert {row.label for row in its.rows} == {"GPT", "NextLat (d=1)", "look_back"}
    run = rows[0].run
    curves = Exhibits({run: Curve(run=run, steps=[1, 2], next_token=[3.0, 2.0])}, {})
    drawn, its = figure("lift_training", rows, curves)
    assert drawn is not None
    assert {row.label for row in its.rows if row.source == "measured" and row.num_seeds} >= {"GPT"}
    marks = [line for line in drawn.axes[0].lines if line.get_marker() == LOOKS["gpt"][1]]
    assert [line.get_markevery() for line in marks] == [(0, 1)]  # of two points both


def test_objectives_of_ones_own_are_told_apart_in_figures() -> None:
    rows = lift_records()
    for name in ("another", "a_third"):
        rows += [replace(r, objective=name, run=f"{r.run}-{name}") for r in lift_records()[:20]]
    drawn, _ = figure("lift_spectrum", rows, Exhibits({}, {}))
    assert drawn is not None
    [legend] = drawn.legends
    looks = [(line.get_color(), line.get_marker()) for line in legend.get_lines()]
    assert len(set(looks)) == len(looks) >= 4
    assert look("another") == look("a_third")  # none is remembered


def test_the_report_shows_it(tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", lift_records())
    out = tmp_path / "all.csv"
    asked = ["--records", str(tmp_path), "--format", "csv", "--out", str(out)]
    assert here("report", *asked).returncode == 0
    lines = csv.reader(io.StringIO(out.read_text()))
    assert {line[2] for line in lines if line[0] == "lift"} >= {"GPT", "look_back"}
    assert "NextLat" in here("report", "lift", "--records", str(tmp_path)).stdout
    refused = here("report", "lifd", "--records", str(tmp_path))
    assert refused.returncode == 2
    assert "did you mean 'lift'" in refused.stderr


def test_conditions_of_ones_own_are_taken_as_they_are() -> None:
    """Braces are no places to fill, and what ends in % makes no percentages of the values."""
    conditions = ("keep=50%", "set={1, 2}", "{}")
    rows = [
        r
        for condition, value in zip(conditions, (3.0, 4.0, 5.0), strict=True)
        for r in seeds(
            value, **LIFT, probe="leak:Leak", metric="floors", condition=condition, low=2, high=6
        )
    ]
    made = table("lift", rows)
    [row] = [row for row in made.rows if row.source == "measured"]
    found = {column.heading: made.lines(row)[i] for i, column in enumerate(made.columns)}
    assert found == {
        "leak:Leak, floors, keep=50 percent": ["3", "[2, 6]"],
        "leak:Leak, floors, set={1, 2}": ["4", "[2, 6]"],
        "leak:Leak, floors, {}": ["5", "[2, 6]"],
    }


@pytest.mark.parametrize("name", ["said", "my task"])
def test_a_page_whose_parts_are_called_alike(name: str) -> None:
    tree = parsed(page([replace(r, task=name) for r in lift_records()], (name,), Exhibits({}, {})))
    ids = [e.attributes["id"] for e in tree.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    assert not [each for each in ids if " " in each]
    [said] = [e for e in tree.all() if e.attributes.get("role") == "status"]
    assert said.attributes["id"] == "said"
