"""All tables and figures as one HTML page that needs nothing else: no network, no other file.

Records are not trusted: every text of theirs is escaped, and the page's policy lets no script run
but its own, by its digest. The same records give the same bytes.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING

from nextlat_bench.report import sheets
from nextlat_bench.report.columns import DASH, REFERENCES, Column, label_of
from nextlat_bench.report.contents import made, names, settled
from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.facts import grouped
from nextlat_bench.report.figures import encoded, figure, figures_of
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.records import Record, distinct
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.statistics import Estimate
from nextlat_bench.report.tables import Row, Table

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

WIDE = 12  # columns; a figure's numbers in more are turned on their side
MANY = 6  # columns of one metric; in words more of them are a range
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Cell:
    """A value, what is written small below it, and the number it is sorted by; or words."""

    text: str
    small: str = ""
    key: str = ""
    words: bool = False

    @property
    def is_number(self) -> bool:
        """It is sorted by what stands there."""
        return bool(NUMBER.fullmatch(self.text))


@dataclass(frozen=True)
class Grid:
    """One table of the page. `lines`: head of the row, its kind (ours or the paper's), cells."""

    caption: str
    heads: list[str]
    lines: list[tuple[str, str, list[Cell]]]

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Each head, and whether words stand below it."""
        words = [True, *(cell.words for _, _, cells in self.lines[:1] for cell in cells)]
        return list(zip(self.heads, words + [False] * len(self.heads), strict=False))


@dataclass(frozen=True)
class Picture:
    """`called`: where its numbers are told from another's; `says`: in words what is to be seen;
    `grids`, `seeds`: the numbers that are drawn."""

    name: str
    called: str
    caption: str
    says: str
    source: str
    grids: list[Grid]
    seeds: list[Grid]


@dataclass(frozen=True)
class Section:
    """`more`: what is folded away on a screen, under this summary."""

    name: str
    title: str
    pictures: list[Picture]
    grids: list[Grid]
    summary: str
    more: list[Grid]
    notes: Sequence[str]


def page(
    records: Iterable[Record],
    tables: Sequence[str] = (),
    exhibits: Exhibits | None = None,
    tried: Iterable[Record] | None = None,
) -> str:
    """The page of these tables; of all, where none is named.

    `exhibits`, `tried`: of these runs, the latter's records of the validation split; by default
    the committed ones.
    """
    rows = distinct(records)
    chosen = list(dict.fromkeys(tables or _in_order(names(rows))))
    drawn = settled(rows, tried)
    known = names()  # in links; one's own may be called as anything else of the page is
    links = [name if name in known else f"own-{i}" for i, name in enumerate(chosen, start=1)]
    sections = [
        _section(name, link, made(name, rows, tried), drawn, exhibits)
        for name, link in zip(chosen, links, strict=True)
    ]
    environment = _environment()
    style, script = (_file(name).strip() for name in ("page.css", "page.js"))
    tasks = {LAYOUTS[name].task for name in chosen if name in LAYOUTS}
    tasks = tasks if all(name in LAYOUTS for name in chosen) else {row.task for row in rows}
    return environment.get_template("page.html").render(
        sections=sections,
        dash=DASH,
        sources=_sources([row for row in rows if row.task in tasks]),
        style=style,
        script=script,
        digests={"style": _digest(style), "script": _digest(script)},
    )


def _in_order(names: Sequence[str]) -> list[str]:
    """The paper's tables in the paper's order, where they stand among the others."""
    tables = iter(LAYOUTS)
    return [next(tables) if name in LAYOUTS else name for name in names]


def _section(
    name: str,
    link: str,
    shown: Table | Sheet,
    records: Sequence[Record],
    exhibits: Exhibits | None,
) -> Section:
    pictures = []
    for each in figures_of(name, records):
        drawn, its = figure(each, records, exhibits)
        if drawn is not None:
            where = f"figure-{link}{each.removeprefix(name)}"  # all begin with their table's name
            pictures.append(_picture(where, each, its.title, encoded(drawn, "webp"), _drawn(its)))
    if isinstance(shown, Sheet):
        grids, more = ([_words(g) for g in shown.grids if g.detail == d] for d in (False, True))
        return Section(link, shown.title, pictures, grids, "Details", more, shown.notes)
    grids, seeds = _grids(shown, seeds=False), _grids(shown, seeds=True)
    return Section(link, shown.title, pictures, grids, "Every seed", seeds, shown.notes)


# ---- tables


def _grids(shown: Table, *, seeds: bool, where: str = "") -> list[Grid]:
    """A grid for each block; of a figure, told by `where`, many columns have a row each."""
    grids = []
    for block, rows in shown.blocks(seeds=seeds).items():
        caption = f"{block}{', every seed' * seeds}{where}"
        cells = [[_cell(*pair) for pair in zip(shown.columns, r.cells, strict=True)] for r in rows]
        columns = [column.heading for column in shown.columns]
        who = [row.heads[0] for row in rows]
        if where and len(columns) > WIDE:
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


def _words(grid: sheets.Grid) -> Grid:
    """A table of texts; of several lines of a short one, the first counts."""
    lines = []
    for head, *texts in grid.rows:
        cells = []
        for text in texts:
            first, _, rest = text.partition("\n")
            number = first.removesuffix("*")  # the mark of a choice
            key = number if NUMBER.fullmatch(number) else ""
            cells.append(Cell(first, rest, key) if grid.numbers else Cell(text, words=True))
        lines.append((head, "measured", cells))
    return Grid(grid.heading, list(grid.head), lines)


def _cell(column: Column, cell: Estimate) -> Cell:
    value, *interval = column.lines(cell)
    number = cell.low if cell.value is None else cell.value  # of "> 95" the bound
    key = "" if number is None or value == DASH else f"{number:.6g}"
    return Cell(value, " ".join(interval) if cell.low is not None else "", key)  # a loss has none


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


def _picture(link: str, name: str, caption: str, content: bytes, drawn: Table) -> Picture:
    """Its numbers are in grids of their own, told from the table's."""
    source = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
    called = name.replace("_", " ")
    where = f", as drawn ({called})"
    its = [_grids(drawn, seeds=seeds, where=where) for seeds in (False, True)]
    return Picture(link, called, caption, f"{caption} {_in_words(drawn)}", source, *its)


def _drawn(shown: Table) -> Table:
    """Without the rows of which nothing is to be seen in a picture, and the references'."""

    def seen(row: Row) -> bool:
        values = [value for cell in row.cells for value in (cell.value, cell.low)]
        return row.objective not in REFERENCES and values != [None] * len(values)

    return replace(shown, rows=tuple(filter(seen, shown.rows)))


def _in_words(shown: Table) -> str:
    """Each model's means; of a curve, which has a metric at many places, their range."""
    curves = [
        (its, _in_common([c.heading for c in its]))
        for _, its in grouped(shown.columns, lambda c: {"probe": c.probe, "metric": c.metric})
    ]
    parts = []
    for block, rows in shown.blocks(seeds=False).items():
        said = []
        for row in rows:
            if row.source != "measured":
                continue
            pairs = zip(shown.columns, row.cells, strict=True)
            found = {c.heading: cell.value for c, cell in pairs if cell.value is not None}
            texts = []
            for columns, name in curves:
                mine = [c for c in columns if c.heading in found]
                values = [found[c.heading] for c in mine]
                if mine and len(columns) > MANY:
                    low, high = map(columns[0].text, (min(values), max(values)))
                    texts.append(f"{name}from {low} to {high}{' %' * columns[0].percent}")
                else:
                    texts += [f"{c.heading} {c.text(found[c.heading])}" for c in mine]
            said.append(f"{row.label}: {', '.join(texts)}")
        parts += [f"{block}: {'; '.join(said)}."] if said else []
    return " ".join([*parts, "All numbers are in the table below the picture."])


def _in_common(headings: Sequence[str]) -> str:
    """What stands before the comma of all: "Accepted " of "Accepted, code", "Accepted, prose"."""
    firsts = {heading.partition(",")[0] for heading in headings}
    return f"{firsts.pop()} " if len(firsts) == 1 else ""


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
