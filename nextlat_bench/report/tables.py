"""Tables as pure functions of records: ours, with intervals, beside the paper's numbers.

A table is declared as data (`Layout`). Trials within a seed and seeds are two levels: a value over
seeds is the mean of the seeds' values, with the interval of `statistics.over_seeds`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from nextlat_bench.files import visible
from nextlat_bench.registry import check_name
from nextlat_bench.report.columns import DASH, VARIANT, Column, Layout, label_of
from nextlat_bench.report.facts import Facts, flat, grouped, say, told_apart
from nextlat_bench.report.layouts import LAYOUTS, layout_of, names
from nextlat_bench.report.published import paper_protocol, paper_rows
from nextlat_bench.report.records import Record, distinct, listed, one_protocol, variants_of
from nextlat_bench.report.sheets import BREAK, LATEX, LATEX_TABLE, Grid, Sheet, latex_label
from nextlat_bench.report.statistics import Estimate
from nextlat_bench.report.terminal import below, fitting, rich_table, valued

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["DASH", "LAYOUTS", "Block", "Row", "Table", "blocks_of", "fewer", "grid_of"]
__all__ += ["names", "table"]

SCALES = ("paper", "laptop", "smoke")
CSV_HEADER = (
    *("table", "block", "model", "source", "seeds", "column"),
    *("value", "low", "high", "n", "n_skipped"),
)
ABOUT_CELLS = """Cells: the mean over seeds and its 95% interval: Student's t over seeds and the
trials' own interval, in quadrature, where there are several seeds, the probe's own over its trials
where there is one. Where a probe ran with several parameters, a cell shows those with most seeds,
then most trials. A dash means missing or not applicable, never zero.""".replace("\n", " ")


@dataclass(frozen=True)
class Row:
    """`source`: "measured" (over seeds), "seed 0" (one of them) or "paper".

    `variant`: the objective's parameters and all else that tells its rows apart. `protocols`: the
    probe's parameters behind each measured cell.
    """

    block: str
    objective: str
    variant: Facts
    label: str
    source: str
    num_seeds: int
    cells: tuple[Estimate, ...]
    protocols: tuple[str, ...] = ()

    @property
    def drawn_as(self) -> str:
        """Whom a figure shows as one: an objective, or one of people's own models."""
        return self.label if "model" in self.variant else self.objective

    @property
    def heads(self) -> list[str]:
        """Who, and of how many seeds."""
        who = self.label if self.source == "measured" else f"{self.label}, {self.source}"
        return [who, str(self.num_seeds or DASH)]


@dataclass(frozen=True)
class Block:
    """What one setting has: its facts, its records (none: the paper's alone) and its rows."""

    heading: str
    facts: Facts
    records: list[Record]
    rows: list[Row]


def blocks_of(name: str, layout: Layout, records: Iterable[Record]) -> list[Block]:
    """A block for each setting, ours first, then those that only the paper has."""
    ours = grouped((r for r in distinct(records) if r.task == layout.task), lambda r: r.setting)
    ours.sort(key=lambda b: (*(b[0]["scale"] != scale for scale in SCALES), _by_number(b[0])))
    headings = layout.headings([facts for facts, _ in ours])
    found = [(heading, *block) for heading, block in zip(headings, ours, strict=True)]
    keys = layout.paper_settings
    known = [{key: facts.get(key) for key in keys} for facts, _ in ours]
    for row in paper_rows(name, None, {}) if keys else []:
        facts = {key: row[key] for key in keys}
        if facts not in known:
            known.append(facts)
            (heading,) = layout.headings([{"scale": "paper"} | facts], scale="{}")
            found.append((f"{heading}: not trained here", facts, []))
    return [
        Block(heading, facts, group, _rows(name, layout, heading, facts, group))
        for heading, facts, group in found or [("nothing measured yet", {}, [])]
    ]


def _by_number(facts: Facts) -> str:
    """A key for sorting: 5,000 comes before 20,000."""
    return re.sub(r"(?<![\d.])\d+", lambda number: number[0].zfill(15), json.dumps(facts))


def _rows(
    name: str, layout: Layout, block: str, facts: Facts, records: Sequence[Record]
) -> list[Row]:
    """The rows of one block: for each objective ours, its seeds, and the paper's."""
    rows = []
    where = {key: facts.get(key) for key in layout.paper_settings}
    for objective in layout.shown(records):
        theirs = paper_rows(name, objective, where)
        variants = variants_of([r for r in records if r.objective == objective])
        known = [facts.get("horizon") for facts, _ in variants]
        horizons = dict.fromkeys(row["horizon"] for row in theirs if "horizon" in row)
        variants += [({"horizon": h}, []) for h in horizons if h not in known]
        variants = _in_order(variants or [({}, [])])
        papers = [_at(theirs, facts.get("horizon")) for facts, _ in variants]
        labels = told_apart([facts for facts, _ in variants], VARIANT, briefly=True)
        for i, (variant, group) in enumerate(variants):
            label, seeds = label_of(objective, labels[i]), sorted({r.seed for r in group})
            who = (block, objective, variant, label)
            chosen = [one_protocol(some) for some in layout.chosen(group)]
            protocols = tuple(json.dumps(r[0].probe_parameters) if r else "" for r in chosen)
            rows.append(Row(*who, "measured", len(seeds), layout.cells(chosen), protocols))
            for seed in seeds:
                its = [[r for r in some if r.seed == seed] for some in chosen]
                rows.append(Row(*who, f"seed {seed}", 1, layout.cells(its)))
            if papers[i] and papers[i] not in papers[i + 1 :]:
                label = label_of(objective, *told_apart([papers[i]], VARIANT))
                cells = tuple(column.paper(papers[i]) for column in layout.columns)
                rows.append(Row(block, objective, papers[i], label, "paper", 0, cells))
    return rows


def _in_order(variants: list[tuple[Facts, list[Record]]]) -> list[tuple[Facts, list[Record]]]:
    """By horizon, then by the objective's other parameters, then by all else, each in the order of
    the names: numbers as such, then words."""
    every = {name for facts, _ in variants for name in facts}
    names = sorted(every, key=lambda n: (n != "horizon", "." in n or n == "step", n))

    def rank(value: Any) -> tuple[int, float, str]:
        if isinstance(value, int | float):
            return 1, float(value), ""
        return (0, 0.0, "") if value is None else (2, 0.0, str(value))

    return sorted(variants, key=lambda variant: [rank(variant[0].get(name)) for name in names])


def _at(rows: Sequence[Facts], horizon: Any) -> Facts:
    return next((row for row in rows if row.get("horizon", horizon) == horizon), {})


def _remarks(layout: Layout, records: Sequence[Record]) -> list[str]:
    """What a reader must know of a block: how it was measured, and what is missing from it."""
    facts, shown = records[0].setting, layout.shown(records)
    about = say(facts, sorted(facts.keys() - {"scale", *layout.settings}))
    if steps := {r.step for r in records if r.step > 0}:
        about.append(f"trained for {_span(steps)} steps")
    for decoder, _ in grouped((r for r in records if r.decoder), lambda r: flat(r.decoder)):
        about.append(f"decoder: {', '.join(say(decoder, decoder))}")
    said: dict[str, list[str]] = {}  # text -> columns of which it is true
    protocols: dict[tuple[str, ...], list[int]] = {}  # probe and parameters -> trials
    for column, its in zip(layout.columns, layout.chosen(records), strict=True):
        mine = [r for r in its if r.objective in shown]
        for protocol, group in grouped(mine, lambda r: r.protocol):
            trials = protocols.setdefault((column.probe, *say(protocol, protocol)), [])
            trials += [r.n for r in group if r.value is not None]
        for why, group in grouped(mine, _because):
            because = f"({why['because'] or 'no reason given'})"
            if skipped := sum(r.n_skipped for r in group):
                text = f"{skipped:,} trials skipped in all {because}"
                said.setdefault(text, []).append(column.heading)
            if lacking := [r for r in group if r.value is None]:
                text = f"no value for {_seeds_of(lacking)} {because}"
                said.setdefault(text, []).append(column.heading)
    if others := sorted({r.objective for r in records} - set(shown)):
        said[f"measured but not shown: {', '.join(others)}"] = []
    how = [
        f"probe {probe}: {', '.join([f'{_span(trials)} trials a seed', *rest])}"
        for (probe, *rest), trials in protocols.items()
    ]
    what = [f"{'; '.join(where)}: {text}" if where else text for text, where in said.items()]
    return [", ".join(about), *how, *what]


def _seeds_of(records: Sequence[Record]) -> str:
    found: dict[str, set[int]] = {}
    for record in records:
        found.setdefault(record.objective, set()).add(record.seed)
    named = (
        label_of(who, f"seed{'s' * (len(its) > 1)} {', '.join(map(str, sorted(its)))}")
        for who, its in found.items()
    )
    return ", ".join(sorted(named))


def _because(record: Record) -> Facts:
    """The reason without the run's name, which would give every run a note of its own."""
    return {"because": visible(record.skipped_because.replace(record.run, "it"))}


def _in_full(rows: Sequence[Row]) -> list[str]:
    """What the labels of variants leave out, for the sake of brevity."""
    found = []
    for objective in dict.fromkeys(row.objective for row in rows):
        mine = [r for r in rows if (r.objective, r.source) == (objective, "measured")]
        texts = told_apart([row.variant for row in mine], VARIANT)
        labels = [label_of(objective, text) for text in texts]
        pairs = zip(mine, labels, texts, strict=True)
        found += [f"{row.label}: {text}" for row, label, text in pairs if row.label != label]
    return found


def fewer(columns: Sequence[Column], rows: Iterable[Row]) -> list[str]:
    """The cells that are over fewer seeds than their rows."""
    said: dict[str, list[str]] = {}  # text -> columns of which it is true
    for row in rows:
        for column, cell in zip(columns, row.cells, strict=True):
            if row.source == "measured" and 0 < cell.num_seeds < row.num_seeds:
                text = f"{cell.num_seeds} of the {row.num_seeds} seeds of {row.label}"
                said.setdefault(text, []).append(column.heading)
    return [f"{'; '.join(heads)}: {text}" for text, heads in said.items()]


def _paired(layout: Layout, rows: Sequence[Row]) -> list[str]:
    """What each model has more than the first, seed by seed, where the layout asks for it."""
    at = next((i for i, c in enumerate(layout.columns) if layout.paired == c.key), None)
    if not layout.paired or at is None:
        return []
    column, seeds = layout.columns[at], [row for row in rows if row.source.startswith("seed")]
    values: dict[str, dict[str, float]] = {}  # label -> seed -> value
    for row in seeds:
        if row.objective != layout.rows[-1] and (found := row.cells[at].value) is not None:
            values.setdefault(row.label, {})[row.source] = found
    first = next((row.label for row in seeds if row.objective == layout.rows[0]), "")
    base, said = values.pop(first, {}), []
    for label, its in values.items():
        gaps = [its[seed] - base[seed] for seed in its if seed in base]
        if len(gaps) > 1:
            every = ", ".join(map(column.text, gaps))
            said.append(f"{label} {column.text(fmean(gaps))} ({every})")
    about = f"{column.heading}, less {first}'s, seed by seed, since seeds have items of their own"
    return [f"{about}: {'; '.join(said)}"] if said else []


def _span(numbers: Iterable[int]) -> str:
    ordered = sorted(set(numbers))
    return " to ".join(f"{k:,}" for k in dict.fromkeys([*ordered[:1], *ordered[-1:]])) or DASH


def table(name: str, records: Iterable[Record]) -> "Table":
    """The named table, or that of a task of one's own. Records of other tasks are left out; their
    order does not matter."""
    records = listed(records)
    layout = layout_of(check_name("table", name, names(records)), records)
    blocks = blocks_of(name, layout, records)
    measured, notes = [block for block in blocks if block.records], [ABOUT_CELLS]
    notes += [f"{note}." for note in layout.notes]
    for block in measured:
        first, *rest = _remarks(layout, block.records)
        here = f"{block.heading}: " * (len(measured) > 1)
        rest += (
            fewer(layout.columns, block.rows) + _paired(layout, block.rows) + _in_full(block.rows)
        )
        notes += [f"{block.heading}: {first}.", *(f"{here}{note}." for note in rest)]
    rows = tuple(row for block in blocks for row in block.rows)
    unique = tuple(dict.fromkeys([*notes, *paper_protocol(name)]))
    return Table(name, layout.title, layout.columns, rows, unique)


def grid_of(
    heading: str, columns: Sequence[Column], rows: Iterable[Row], detail: bool = False
) -> Grid:
    """Rows as texts, the interval under each value."""
    texts = [
        (*row.heads, *("\n".join(c.lines(x)) for c, x in zip(columns, row.cells, strict=True)))
        for row in rows
    ]
    head = ("Model", "Seeds", *(column.heading for column in columns))
    return Grid(heading, head, tuple(texts), numbers=True, detail=detail)


@dataclass(frozen=True)
class Table:
    """`rows` hold all: measured, paper and every seed. Each renderer gives the same bytes again."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def blocks(self, *, seeds: bool) -> dict[str, list[Row]]:
        """The rows by block: those of single seeds, or all others."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.source.startswith("seed") == seeds:
                found.setdefault(row.block, []).append(row)
        return found

    def lines(self, row: Row) -> list[list[str]]:
        return [c.lines(cell) for c, cell in zip(self.columns, row.cells, strict=True)]

    def sheet(self) -> Sheet:
        """Its rows, every seed's as details, and its cells, each in the unit of its heading."""
        blocks = [(s, *block) for s in (False, True) for block in self.blocks(seeds=s).items()]
        grids = [
            grid_of(f"{heading}{', every seed' * seeds}", self.columns, rows, detail=seeds)
            for seeds, heading, rows in blocks
        ]
        lines: list[tuple[object, ...]] = [CSV_HEADER]
        for row in self.rows:
            where = self.name, row.block, row.label, row.source
            for column, cell in zip(self.columns, row.cells, strict=True):
                ours = cell.num_seeds > 0
                numbers = cell.value, cell.low, cell.high
                counts = (cell.n, cell.n_skipped) if ours else (None, None)
                lines.append((*where, cell.num_seeds or None, column.heading, *numbers, *counts))
        return Sheet(self.name, self.title, tuple(grids), self.notes, tuple(lines))

    def csv(self) -> str:
        """One line a cell; empty where there is none."""
        return self.sheet().csv()

    def markdown(self) -> str:
        """The table, the notes, and every seed below them."""
        return self.sheet().markdown()

    def summary(self) -> str:
        """In Markdown too, without the title, the seeds and the notes."""
        return self.sheet().summary()

    def latex(self) -> str:
        """A booktabs table, the interval under each value, and its notes in small print."""

        def stacked(lines: Iterable[str]) -> str:
            # in braces, or the [ of an interval would be read as the line break's argument
            parts = (f"{{{text.translate(LATEX)}}}" for text in lines)
            return rf"\shortstack[r]{{{BREAK.join(parts)}}}"

        def joined(row: Row) -> str:
            heads = (text.translate(LATEX) for text in row.heads)
            return " & ".join([*heads, *map(stacked, self.lines(row))]) + " " + BREAK

        num_columns = len(self.columns)
        headings = [stacked(column.heading.split()) for column in self.columns]
        body = []
        for block, rows in self.blocks(seeds=False).items():
            title = rf"{{\textit{{{block.translate(LATEX)}}}}} {BREAK}"
            body += [rf"\midrule\multicolumn{{{num_columns + 2}}}{{l}}{title}", *map(joined, rows)]
        return LATEX_TABLE % {
            "title": self.title.translate(LATEX),
            "name": latex_label(self.name),
            "columns": "lr" + "r" * num_columns,
            "head": " & ".join(["Model", "Seeds", *headings]),
            "body": "\n".join(body),
            "notes": "\n".join(rf"{note.translate(LATEX)}\par" for note in self.notes),
        }

    def terminal(self, width: int = 100) -> "RenderableType":
        """For rich: the interval under each value, the paper's row dim; a table that is too wide
        in parts, some columns at a time."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(self.title, "bold")]
        headings = [c.heading.replace("-", "-\n").replace(" ", "\n") for c in self.columns]
        for block, rows in self.blocks(seeds=False).items():
            cells = [[below(lines, width) for lines in self.lines(row)] for row in rows]
            for cut in fitting([headings, *cells], width, [row.label for row in rows]):
                out = rich_table(block, ["Model"], headings[cut])
                for row, texts in zip(rows, cells, strict=True):
                    paper, n = row.source == "paper", row.num_seeds
                    name = Text("  paper", "dim") if paper else Text(row.label)
                    name.append(f"\n{n} seed{'s' * (n > 1)}" * bool(n), "dim")
                    values = (valued(text, "dim" if paper else "bold") for text in texts[cut])
                    out.add_row(name, *values, end_section=paper)
                parts.append(out)
        return Group(*parts, *(Text(f"- {note}", "dim") for note in self.notes))
