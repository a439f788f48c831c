"""All tables and figures as one HTML page that needs nothing else: no network, no other file.

Records are not trusted: every text of theirs is escaped, and the page's policy lets no script run
but its own, by its digest. The same records give the same bytes.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING

from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.figures import FIGURES, figure, figures_of, numbers, png
from nextlat_bench.report.layouts import DASH, LAYOUTS, Column, label_of
from nextlat_bench.report.records import Record, committed, distinct, grouped
from nextlat_bench.report.statistics import Estimate
from nextlat_bench.report.tables import Row, Table, table

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

WIDE = 12  # columns; a table of more is turned on its side
MAPS = "taxi-map-"  # pictures among the rendered, by objective: `show RUN_DIR --map`
STREETS = tuple(
    Column("", heading, "map_reconstruction", metric, form=form)
    for heading, metric, form in (
        ("True edges", "true_edges", ".0f"),
        ("False edges", "false_edges", ".0f"),
        ("False edges %", "false_edge_share", ".1f"),
    )
)


@dataclass(frozen=True)
class Cell:
    """A value, what is written small below it, and the number it is sorted by; or words."""

    text: str
    small: str = ""
    key: str = ""
    words: bool = False


@dataclass(frozen=True)
class Grid:
    """One table of the page. `lines`: head of the row, its kind (ours or the paper's), cells."""

    caption: str
    heads: list[str]
    lines: list[tuple[str, str, list[Cell]]]


@dataclass(frozen=True)
class Picture:
    """`says`: in words what is to be seen; `grids`, `seeds`: the numbers that are drawn."""

    name: str
    caption: str
    says: str
    source: str
    grids: list[Grid]
    seeds: list[Grid]


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    pictures: list[Picture]
    grids: list[Grid]
    seeds: list[Grid]
    notes: Sequence[str]


def page(
    records: Iterable[Record], tables: Sequence[str] = (), exhibits: Exhibits | None = None
) -> str:
    """The page of these tables; of all, where none is named.

    `exhibits`: of these runs; by default the committed ones.
    """
    rows = distinct(records)
    chosen = list(dict.fromkeys(tables or LAYOUTS))
    sections = [_section(name, rows, exhibits) for name in chosen]
    environment = _environment()
    style, script = (_file(name).strip() for name in ("page.css", "page.js"))
    tasks = {LAYOUTS[name].task for name in chosen}
    return environment.get_template("page.html").render(
        sections=sections,
        street_maps=any(p.name.startswith("map-") for s in sections for p in s.pictures),
        dash=DASH,
        sources=_sources([row for row in rows if row.task in tasks]),
        style=style,
        script=script,
        digests={"style": _digest(style), "script": _digest(script)},
    )


def _section(name: str, records: Sequence[Record], exhibits: Exhibits | None) -> Section:
    made = table(name, records)
    pictures = []
    for each in figures_of(name):
        if (drawn := figure(each, records, exhibits)) is not None:
            its, caption = _drawn(numbers(each, records, exhibits)), FIGURES[each].caption
            pictures.append(_picture(f"figure-{each}", caption, png(drawn), its))
    pictures += _maps(records) if name == "taxi" else []
    grids, seeds = _grids(made, seeds=False), _grids(made, seeds=True)
    return Section(name, made.title, pictures, grids, seeds, made.notes)


# ---- tables


def _grids(made: Table, *, seeds: bool, where: str = "") -> list[Grid]:
    """A grid for each block; one of many columns has a row for each of them."""
    grids = []
    for block, rows in made.blocks(seeds=seeds).items():
        caption = f"{block}{', every seed' * seeds}{where}"
        cells = [[_cell(*pair) for pair in zip(made.columns, r.cells, strict=True)] for r in rows]
        columns = [column.heading for column in made.columns]
        who = [row.heads[0] for row in rows]
        if len(columns) > WIDE:
            turned = zip(*cells, strict=True)
            lines = [
                (head, "measured", list(line)) for head, line in zip(columns, turned, strict=True)
            ]
            grids.append(Grid(caption, ["Column", *who], lines))
        else:
            counts = [Cell(row.heads[1], key=row.heads[1].strip(DASH)) for row in rows]
            lines = [
                (name, row.source, [count, *line])
                for name, row, count, line in zip(who, rows, counts, cells, strict=True)
            ]
            grids.append(Grid(caption, ["Model", "Seeds", *columns], lines))
    return grids


def _cell(column: Column, cell: Estimate) -> Cell:
    value, *interval = column.lines(cell)
    number = cell.low if cell.value is None else cell.value  # of "> 95" the bound
    key = "" if number is None or value == DASH else f"{number:.9g}"
    return Cell(value, " ".join(interval), key)


def _sources(records: Sequence[Record]) -> Grid:
    """What the page is made from, task by task."""
    lines = []
    for facts, group in grouped(records, lambda r: {"task": r.task, "scale": r.scale}):
        counts = (len({r.run for r in group}), len({r.seed for r in group}), len(group))
        models = ", ".join(sorted({label_of(r.objective, "") for r in group}))
        cells = [Cell(text, words=True) for text in (facts["scale"], models)]
        cells += [Cell(f"{n:,}", key=str(n)) for n in counts]
        lines.append((facts["task"], "measured", cells))
    heads = ["Task", "Scale", "Models", "Runs", "Seeds", "Measurements"]
    return Grid("Measured records, by task and scale", heads, lines)


# ---- pictures


def _picture(name: str, caption: str, content: bytes, drawn: Table) -> Picture:
    """Its numbers are in grids of their own, told from the table's."""
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    its = [_grids(drawn, seeds=seeds, where=", as drawn") for seeds in (False, True)]
    return Picture(name, caption, f"{caption} {_in_words(drawn)}", source, *its)


def _maps(records: Sequence[Record]) -> list[Picture]:
    """The committed street maps of models whose committed runs are among these records."""
    folder = resources.files("nextlat_bench.results") / "rendered"
    if not folder.is_dir():
        return []
    here = {r.run for r in records}
    runs = {(r.objective, r.run) for r in committed() if r.task == "taxi"}
    known = {objective for objective, run in runs if run in here}
    made = _drawn(table("taxi", records, STREETS))
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        objective = file.name.removeprefix(MAPS).removesuffix(".png")
        if file.name != f"{MAPS}{objective}.png" or objective not in known:
            continue
        rows = tuple(row for row in made.rows if row.objective == objective)
        caption = (
            f"{label_of(objective, '')}: the street map that its routes imply, true edges black, "
            "false ones red, streets not driven on grey."
        )
        its = replace(made, rows=rows)
        found.append(_picture(f"map-{objective}", caption, file.read_bytes(), its))
    return found


def _drawn(made: Table) -> Table:
    """Without the rows of which nothing is to be seen in a picture, and the true world model's."""

    def seen(row: Row) -> bool:
        values = [value for cell in row.cells for value in (cell.value, cell.low)]
        return row.objective != "oracle" and values != [None] * len(values)

    return replace(made, rows=tuple(filter(seen, made.rows)))


def _in_words(made: Table) -> str:
    """Each model's means; of a curve, their range."""
    is_curve = len(made.columns) > WIDE and len({(c.probe, c.metric) for c in made.columns}) == 1
    parts = []
    for block, rows in made.blocks(seeds=False).items():
        said = []
        for row in rows:
            pairs = zip(made.columns, row.cells, strict=True)
            found = [(c, cell.value) for c, cell in pairs if cell.value is not None]
            if row.source != "measured":
                continue
            if is_curve:
                (first, _), values = found[0], [value for _, value in found]
                low, high = map(first.text, (min(values), max(values)))
                text = f"from {low} to {high}{' %' * first.percent}"
            else:
                text = ", ".join(f"{c.heading} {c.text(value)}" for c, value in found)
            said.append(f"{row.label}: {text}")
        parts += [f"{block}: {'; '.join(said)}."] if said else []
    return " ".join([*parts, "All numbers are in the table below the picture."])


# ---- the template


def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _file(name: str) -> str:
    folder = resources.files("nextlat_bench.report") / "templates"
    return (folder / name).read_text("utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
