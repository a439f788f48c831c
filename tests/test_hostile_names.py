"""What stands in somebody else's records and folders is shown, and never obeyed."""

import csv
import io
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_runs import here
from report_records import STREETS, TAXI, record, seeds
from rich.console import Console

from nextlat_bench.files import visible
from nextlat_bench.report.contents import made
from nextlat_bench.report.figures import encoded, figure, figures_of
from nextlat_bench.report.records import Record, committed, distinct
from nextlat_bench.report.tables import table
from nextlat_bench.report.view import measurements_view
from nextlat_bench.run_dir import RunDir
from nextlat_bench.show import facts_table

COMMAND = "\x1b]0;title\x07\x1b[2J"
UNTOLD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def shown(*what: object) -> str:
    screen = Console(file=io.StringIO(), width=200, markup=False)
    screen.print(*what)
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert visible("Zürich, 東京, 🙂, a\u00a0b, \\n") == "Zürich, 東京, 🙂, a\u00a0b, \\n"


@pytest.mark.parametrize("name", ["run", "task", "objective", "scale", "probe", "metric"])
@pytest.mark.parametrize("odd", [COMMAND, "a\n\nb", "\ud800", "\u202eb"])
def test_a_name_has_no_control_characters(name: str, odd: str) -> None:
    with pytest.raises(ValueError, match=f" {name} = .*without control characters"):
        distinct([record(**{name: odd})])


def test_a_parameter_commands_no_terminal_and_breaks_no_table() -> None:
    """It may be any text: what parts two words of a task of one's own, say."""
    odd = TAXI | {"streets": STREETS | {"source": f"a\n\nb{COMMAND}"}, "between": "\t"}
    rows = seeds(0.5, None, task_parameters=odd, n_skipped=1, skipped_because=f"x{COMMAND}\ny")
    out = table("taxi", rows)
    for text in (out.markdown(), out.latex(), out.csv(), shown(out.terminal())):
        assert r"a\n\nb" in text.replace("\\textbackslash{}", "\\").replace("\\\\", "\\")
        assert not UNTOLD.search(text)
    assert not UNTOLD.search(shown(measurements_view(rows)))


def test_a_folder_commands_no_terminal(tmp_path: Path) -> None:
    assert not UNTOLD.search(shown(facts_table(f"run{COMMAND}", {"made on": COMMAND})))
    refused = here("report", "--records", str(tmp_path / f"no{COMMAND}"))
    assert refused.returncode == 2
    assert not UNTOLD.search(refused.stderr)
    assert r"no\x1b]0;title\x07" in refused.stderr


def test_a_name_is_no_latex() -> None:
    evil = r"a}\input{/etc/passwd}\label{b"
    made = table(evil, [record(task=evil)])
    for text in (made.latex(), made.sheet().latex()):
        assert "\\input" not in text
        assert "\\label{tab:ainputetcpasswdlabelb}" in text
    assert "\\label{tab:path_star}" in table("path_star", []).latex()


def test_a_name_is_no_link_and_no_picture() -> None:
    rows = [record(objective="![seen](http://elsewhere/x.png)")]
    text = table("taxi", rows).markdown()
    assert r"![seen]\(http://elsewhere/x.png)" in text
    assert "](" not in text


@pytest.mark.parametrize("first", ["=", "+", "-", "@"])
def test_a_name_is_no_formula_of_a_spreadsheet(first: str) -> None:
    rows = [record(objective=f"{first}1+2", low=-0.5)]
    lines = list(csv.DictReader(io.StringIO(table("taxi", rows).csv())))
    assert f"'{first}1+2 (d=1)" in {line["model"] for line in lines}
    assert "-50.0" in {line["low"] for line in lines}


def test_a_name_is_no_formula_of_a_figure() -> None:
    """Of two $ matplotlib reads what stands between as TeX, and fails where it is none."""
    odd = {"task_parameters": TAXI | {"streets": STREETS | {"source": r"$\frac$"}}}
    drawn, _ = figure("taxi", [*seeds(0.5, 0.6, objective=r"$\frac$"), *seeds(0.5, 0.6, **odd)])
    assert drawn is not None
    assert encoded(drawn)
    assert r"\$\frac\$ (d=1)" in [t.get_text() for each in drawn.legends for t in each.get_texts()]


def test_what_is_locked_is_a_file_of_the_folder(tmp_path: Path) -> None:
    """A link may lead to what is precious; opening it for writing would empty it."""
    precious = tmp_path / "precious"
    precious.write_text("all my work")
    run = RunDir(tmp_path / "run")
    (run.path / "kept").mkdir(parents=True)
    for name in (".lock", "metrics.jsonl"):
        (run.path / name).symlink_to(precious)
        with pytest.raises(ValueError, match="is not a regular file: remove it"), run.lock():
            pass
        (run.path / name).unlink()
    (run.path / ".left.tmp").symlink_to(run.path / "kept")
    with run.lock():
        assert not (run.path / ".left.tmp").exists()
    assert (run.path / "kept").is_dir()
    assert precious.read_text() == "all my work"


@pytest.fixture(scope="module")
def few() -> dict[str, list[Record]]:
    """Of each of our tasks, the committed records of one run of each objective."""
    kept: dict[tuple[str, str], str] = {}
    found = defaultdict(list)
    for r in committed():
        if kept.setdefault((r.task, r.objective), r.run) == r.run:
            found[r.task].append(r)
    return found


@pytest.mark.parametrize(
    ("task", "part", "name"),
    [
        ("a5", "task_parameters", "length"),
        ("a5", "objective_parameters", "horizon"),
        ("path_star", "task_parameters", "degree"),
        ("a5", "task_parameters", "group"),
        ("countdown", "objective_parameters", "horizon"),
    ],
)
@pytest.mark.parametrize("odd", ["x", [1], 0])
def test_what_is_reckoned_with_may_be_no_number(
    few: dict[str, list[Record]], task: str, part: str, name: str, odd: Any
) -> None:
    """Another's objective may call anything a horizon, and a record may be written by hand."""
    rows = [replace(r, **{part: getattr(r, part) | {name: odd}}) for r in few[task]]
    assert "NextLat" in made(task, rows).markdown()
    for what in ("claims", "validity"):
        assert made(what, rows).markdown()
    for drawing in figures_of(task, rows):
        if "training" not in drawing:
            figure(drawing, rows)
