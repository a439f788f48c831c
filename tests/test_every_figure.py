"""What every figure does: it is all there, nothing is cut off, and the same bytes come again."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from figure_parts import drawn, legend
from figure_records import everything
from report_records import MADE_UP, a5_records, path_star_records

from nextlat_bench.report.columns import label_of
from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.figures import FIGURES, draw, figure, figures_of
from nextlat_bench.report.records import write
from nextlat_bench.report.tables import names


@pytest.mark.parametrize("name", FIGURES)
def test_every_objective_is_in_the_legend(name: str) -> None:
    records, exhibits = everything(name)
    found = legend(drawn(name, records, exhibits))
    if name == "taxi_map":  # there they stand above the maps
        titles = [axes.get_title("left") for axes in drawn(name, records, exhibits).axes]
        found = [title.partition(",")[0] for title in titles] + ["one seed"]
    found = [text.partition(" (d=")[0] for text in found]
    shown = {label_of(r.objective, "") for r in records if r.objective != "oracle"}
    assert {"MTP", "NextLat"} < shown
    assert shown | {"one seed"} <= set(found)
    assert "True world model" not in found


@pytest.mark.parametrize("name", FIGURES)
def test_an_objective_of_ones_own_is_drawn(name: str) -> None:
    records, exhibits = everything(name)
    mine = [
        replace(r, objective="mine", run=f"mine {r.run}")
        for r in records
        if r.objective == "nextlat"
    ]
    curves = {f"mine {run}": curve for run, curve in exhibits.curves.items()}
    maps = {f"mine {run}": found for run, found in exhibits.maps.items()}
    more = Exhibits({**exhibits.curves, **curves}, {**exhibits.maps, **maps})
    made = drawn(name, [*records, *mine], more)
    titles = [axes.get_title("left").partition(",")[0] for axes in made.axes]
    assert "mine" in [text.partition(" (d=")[0] for text in [*legend(made), *titles]]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_overlaps(name: str) -> None:
    """Tick labels beside each other, and all text inside the picture."""
    made = drawn(name, *everything(name))
    renderer = made.canvas.get_renderer()  # type: ignore[attr-defined]
    made.draw(renderer)
    for axes in made.axes:
        low, high = axes.get_xlim()
        seen = [t.label1 for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        labels = [text for text in seen if text.get_text() and text.get_visible()]
        boxes = [label.get_window_extent(renderer) for label in labels]
        for left, right in pairwise(boxes):
            assert left.x1 < right.x0
        if not axes.axison:
            labels = []
        titles = (axes.title, axes._left_title)  # type: ignore[attr-defined]
        for text in (*labels, axes.xaxis.label, axes.yaxis.label, *titles):
            box = text.get_window_extent(renderer)
            if text.get_text():
                assert box.x0 >= 0
                assert box.y0 >= 0
                assert box.x1 <= made.bbox.x1
                assert box.y1 <= made.bbox.y1


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_records_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    records, exhibits = everything(name)
    assert draw(name, records, tmp_path / "deep" / "a.png", exhibits)
    first = (tmp_path / "deep" / "a.png").read_bytes()
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert draw(name, records[::-1], tmp_path / "b.png", exhibits)
    assert first.startswith(b"\x89PNG")
    assert (tmp_path / "b.png").read_bytes() == first


@pytest.mark.parametrize("name", FIGURES)
def test_where_nothing_was_measured_there_is_no_figure(name: str, tmp_path: Path) -> None:
    truth = [r for r in path_star_records() if r.objective == "oracle"]
    lost = [replace(r, value=None, low=None, high=None) for r in everything(name)[0]]
    other = MADE_UP if FIGURES[name].table != "taxi" else a5_records()
    for records in ([], other, truth, lost):
        assert figure(name, records)[0] is None
        assert not draw(name, records, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def test_an_unknown_figure_is_named() -> None:
    with pytest.raises(ValueError, match="no figure named 'taxi_maps'; did you mean 'ta"):
        figure("taxi_maps", [])


def test_every_figure_belongs_to_a_table() -> None:
    assert sorted(name for table in names() for name in figures_of(table)) == sorted(FIGURES)
    assert figures_of("taxi") == ["taxi", "taxi_map", "taxi_spectrum", "taxi_training"]


@pytest.mark.parametrize("name", FIGURES)
def test_its_numbers_are_a_table(name: str) -> None:
    """Means with intervals, and a row for every seed that is drawn."""
    records, exhibits = everything(name)
    made = figure(name, records, exhibits)[1]
    ours = [row for row in made.rows if row.source == "measured" and row.num_seeds]
    cells = [cell for row in ours if row.objective == "nextlat" for cell in row.cells]
    assert cells
    for cell in cells:
        assert cell.low is not None
        assert cell.value is not None
        assert cell.high is not None
        assert cell.low <= cell.value <= cell.high
    seeds = {(r.objective, r.source) for r in made.rows if r.source.startswith("seed")}
    assert {("nextlat", f"seed {k}") for k in range(3)} <= seeds
    headings = [column.heading for column in made.columns]
    assert len(set(headings)) == len(headings)
    assert FIGURES[name].caption in made.markdown()


def test_report_says_what_it_drew(tmp_path: Path) -> None:
    """On standard error: what it prints can be piped into a file."""
    write(tmp_path / "a5.jsonl", a5_records())
    arguments = ["--format", "csv", "--records", "a5.jsonl", "--figures", "drawn"]
    command = [sys.executable, "-m", "nextlat_bench", "report", "a5", "taxi", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr.splitlines() == [
        str(Path("drawn", "a5.png")),
        *("a5_spectrum: nothing to draw", "a5_training: nothing to draw"),
        *(f"taxi{part}: nothing to draw" for part in ("", "_map", "_spectrum", "_training")),
    ]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["a5.png"]
    assert "drawn" not in done.stdout


def test_importing_figures_loads_neither_matplotlib_nor_torch_nor_tasks() -> None:
    code = (
        "import sys, nextlat_bench.report.figures as f; f.figure('a5', []);"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'pandas', 'matplotlib')"
        " or m.startswith(('nextlat_bench.tasks', 'nextlat_bench.probes'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
