"""Tables as pure functions of records: ours, with intervals, beside the paper's numbers.

A table is declared as data (`Layout`). Trials within a seed and seeds are two levels: a value over
seeds is the mean of the seeds' values, and its interval comes from the seeds alone.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nextlat_bench.registry import check_name
from nextlat_bench.report.records import (
    Record,
    distinct,
    grouped,
    line,
    paper_row,
    published,
    say,
    setting,
    told_apart,
    variants_of,
)
from nextlat_bench.report.statistics import bootstrap_interval

if TYPE_CHECKING:
    pass

__all__ = ["Cell", "Column", "Row", "Table", "measurements_view", "names", "table"]

DASH = "–"  # noqa: RUF001  missing is a dash, never zero
SCALES = ("paper", "laptop", "smoke")
LABELS = {"gpt": "GPT", "mtp": "MTP", "jtp": "JTP", "nextlat": "NextLat", "bst": "BST"} | {
    "oracle": "True world model"
}
MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_|<"})
LATEX = str.maketrans({c: f"\\{c}" for c in "%&#_$"}) | str.maketrans(
    {"{": r"\{", "}": r"\}", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", DASH: "--", "<": r"\textless{}", ">": r"\textgreater{}"}
)
ABOUT_CELLS = (
    "Cells: the mean over seeds and its 95% interval, by bootstrap over seeds where there are "
    "several and by the probe itself, over its trials, where there is one. A dash is missing or "
    "not applicable, never zero."
)


@dataclass(frozen=True)
class Cell:
    """A number in the unit of its column's heading. `n` trials over all of its seeds."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_seeds: int = 0
    n: int = 0
    n_skipped: int = 0


@dataclass(frozen=True)
class Column:
    """What a column shows; `key` names the paper's number in published.toml."""

    key: str
    heading: str
    probe: str
    metric: str
    condition: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)  # a probe's, where it matters
    percent: bool = True
    digits: int = 1

    def shows(self, record: Record) -> bool:
        there = (record.probe, record.metric, record.condition)
        given = record.probe_parameters
        return there == (self.probe, self.metric, self.condition) and all(
            given.get(name, value) == value for name, value in self.parameters.items()
        )

    def cell(self, records: Sequence[Record]) -> Cell:
        """One record a seed, of one protocol -> the mean of the seeds that have a value."""
        measured = [(r.value, r) for r in records if r.value is not None]
        if not measured:
            return Cell()
        values, low, high = [v for v, _ in measured], measured[0][1].low, measured[0][1].high
        if len(values) > 1:
            low, high = bootstrap_interval(np.array(values))
        unit = 100.0 if self.percent else 1.0
        return Cell(
            unit * float(np.mean(values)),
            None if low is None else unit * low,
            None if high is None else unit * high,
            len(values),
            sum(r.n for _, r in measured),
            sum(r.n_skipped for _, r in measured),
        )

    def text(self, value: float | None) -> str:
        return DASH if value is None else f"{value:.{self.digits}f}"

    def interval(self, cell: Cell) -> str:
        return f"[{self.text(cell.low)}, {self.text(cell.high)}]"

    def full(self, cell: Cell, source: str = "measured") -> str:
        if cell.value is None or source == "paper":
            return self.text(cell.value)
        return f"{self.text(cell.value)} {self.interval(cell)}"


@dataclass(frozen=True)
class Row:
    """`source`: "measured" (over seeds), "seed 0" (one of them) or "paper"."""

    block: str
    label: str
    source: str
    num_seeds: int
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return self.label if self.source == "measured" else f"{self.label}, {self.source}"

    @property
    def seeds(self) -> str:
        return str(self.num_seeds) if self.num_seeds else DASH


@dataclass(frozen=True)
class Layout:
    """A table as data: who has a row in any case, and what headings and labels say."""

    title: str
    task: str
    rows: tuple[str, ...]  # objectives; other trained ones follow, before the last of these
    columns: tuple[Column, ...]
    settings: Mapping[str, str]  # dotted task parameter -> how a block's heading writes it

    def shown(self, trained: Iterable[str]) -> list[str]:
        return [*self.rows[:-1], *sorted(set(trained) - set(self.rows)), self.rows[-1]]

    def cells(self, records: Sequence[Sequence[Record]]) -> tuple[Cell, ...]:
        """Each column's records -> its cell."""
        return tuple(c.cell(some) for c, some in zip(self.columns, records, strict=True))


DETOUR = "p=0.75,replace=random"
LAYOUTS = {
    "taxi": Layout(
        "Table 1. Taxi: did it learn the street map?",
        task="taxi",
        rows=("gpt", "mtp", "jtp", "nextlat", "oracle"),
        columns=(
            Column("next_token", "Next-token test %", "next_token", "legal_top1"),
            Column("legal", "Valid trajectories, legal %", "trajectories", "legal"),
            Column("reached", "Valid trajectories, reached %", "trajectories", "reached"),
            Column(
                *("compression", "Sequence compression", "compression", "precision"),
                parameters={"protocol": "precision"},
                percent=False,
                digits=2,
            ),
            Column(
                *("rank", "Effective latent rank", "rank", "effective_rank"),
                parameters={"positions": "all"},
                percent=False,
            ),
            Column("detour_legal", "Detours 0.75, legal %", "detours", "legal", DETOUR),
            Column("detour_reached", "Detours 0.75, reached %", "detours", "reached", DETOUR),
        ),
        settings={"streets.source": "{}", "radius": "radius {:g} m", "generator": "{} walks"},
    )
}
VARIANT = {"horizon": "d={}"}


def names() -> list[str]:
    """The tables there are."""
    return sorted(LAYOUTS)


def _label(objective: str, variant: str) -> str:
    return LABELS.get(objective, objective) + (f" ({variant})" if variant else "")


def _choose(column: Column, records: Sequence[Record]) -> list[Record]:
    """The records a cell is made of: of several probe parameters, those with the most seeds, then
    the most trials. They are never mixed."""
    protocols = grouped(filter(column.shows, records), lambda r: r.probe_parameters)

    def weight(protocol: tuple[dict[str, Any], list[Record]]) -> tuple[int, int, str]:
        facts, group = protocol
        measured = [r.n for r in group if r.value is not None]
        return len(measured), sum(measured), json.dumps(facts)

    return sorted(max(protocols, key=weight)[1], key=lambda r: r.seed) if protocols else []


def _rows(name: str, layout: Layout, block: str, records: Sequence[Record]) -> list[Row]:
    """The rows of one block: for each objective ours, its seeds, and the paper's."""
    rows, trained = [], {r.objective for r in records if r.step > 0}
    for objective in layout.shown(trained):
        variants = variants_of([r for r in records if r.objective == objective]) or [({}, [])]
        papers = [paper_row(name, objective, facts.get("horizon")) for facts, _ in variants]
        labels = told_apart([facts for facts, _ in variants], VARIANT)
        for i, (_, group) in enumerate(variants):
            label, seeds = _label(objective, labels[i]), sorted({r.seed for r in group})
            chosen = [_choose(column, group) for column in layout.columns]
            rows.append(Row(block, label, "measured", len(seeds), layout.cells(chosen)))
            for seed in seeds:
                its = [[r for r in some if r.seed == seed] for some in chosen]
                rows.append(Row(block, label, f"seed {seed}", 1, layout.cells(its)))
            if papers[i] and papers[i] not in papers[i + 1 :]:
                horizon = papers[i].get("horizon")
                label = _label(objective, f"d={horizon}" if horizon else "")
                cells = tuple(Cell(papers[i].get(column.key)) for column in layout.columns)
                rows.append(Row(block, label, "paper", 0, cells))
    return rows


def _remarks(layout: Layout, block: str, records: Sequence[Record]) -> list[str]:
    """What a reader must know of a block: how it was measured, and what is missing from it."""
    trained = {r.objective for r in records if r.step > 0}
    facts = setting(records[0])
    rest = say(facts, sorted(facts.keys() - {"scale", *layout.settings}))
    rest += [f"trained for {_span(r.step for r in records if r.step > 0)} steps"]
    notes = [f"{block}: {', '.join(rest)}."]
    for column in layout.columns:
        mine = [r for r in records if column.shows(r) and r.objective in layout.shown(trained)]
        for protocol, group in grouped(mine, lambda r: r.probe_parameters):
            n = _span(r.n for r in group if r.value is not None)
            how = [f"{n} trials a seed", *say(protocol, protocol)]
            notes.append(f"{block}: {column.heading}: {', '.join(how)}.")
        for why, group in grouped(mine, lambda r: {"because": r.skipped_because}):
            because = why["because"] or "no reason given"
            if skipped := sum(r.n_skipped for r in group):
                of = f"of {sum(r.n + r.n_skipped for r in group):,} trials skipped"
                notes.append(f"{block}: {column.heading}: {skipped:,} {of}: {because}.")
            if who := sorted({_who(r) for r in group if r.value is None}):
                notes.append(f"{block}: {column.heading}: no value: {'; '.join(who)}: {because}.")
    if others := sorted({r.objective for r in records} - set(layout.shown(trained))):
        notes.append(f"{block}: measured but not shown: {', '.join(others)}.")
    return notes


def _who(record: Record) -> str:
    return f"{_label(record.objective, '')} seed {record.seed}"


def _span(numbers: Iterable[int]) -> str:
    ordered = sorted(set(numbers))
    return " to ".join(f"{k:,}" for k in dict.fromkeys([*ordered[:1], *ordered[-1:]])) or DASH


def table(name: str, records: Iterable[Record]) -> "Table":
    """The named table. Records of other tasks are left out; their order does not matter."""
    layout = LAYOUTS[check_name("table", name, names())]
    mine = sorted((r for r in distinct(records) if r.task == layout.task), key=line)
    blocks = grouped(mine, setting)
    blocks.sort(key=lambda b: (*(b[0]["scale"] != scale for scale in SCALES), json.dumps(b[0])))
    headings = told_apart([facts for facts, _ in blocks], {"scale": "{} scale"} | layout.settings)
    rows, notes = [], [ABOUT_CELLS]
    for heading, (_, group) in zip(headings, blocks, strict=True):
        rows += _rows(name, layout, heading, group)
        notes += _remarks(layout, heading, group)
    paper = published()[name]
    flag = ", read off a figure" if paper["digitised"] else ""
    notes += [f"Paper ({paper['source']}{flag}): {text}." for text in paper["protocol"]]
    return Table(
        name=name,
        title=layout.title,
        columns=layout.columns,
        rows=tuple(rows or _rows(name, layout, "nothing measured yet", [])),
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True, kw_only=True)
class Table:
    """`rows` hold all: measured, paper and every seed. Each renderer gives the same bytes again."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def blocks(self, *, seeds: bool) -> dict[str, list[Row]]:
        """The rows by block: those of single seeds, or all others."""
        found: dict[str, list[Row]] = {row.block: [] for row in self.rows}
        for row in self.rows:
            if row.source.startswith("seed") == seeds:
                found[row.block].append(row)
        return found

    def texts(self, row: Row) -> list[str]:
        return [c.full(cell, row.source) for c, cell in zip(self.columns, row.cells, strict=True)]

    def csv(self) -> str:
        """One line a cell, in the unit of the column's heading; empty where there is none."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        header = ["table", "block", "model", "source", "seeds", "column"]
        writer.writerow([*header, "value", "low", "high", "n", "n_skipped"])
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                where = [self.name, row.block, row.label, row.source, cell.num_seeds or None]
                counts = [cell.n, cell.n_skipped] if cell.num_seeds else [None, None]
                numbers = [cell.value, cell.low, cell.high, *counts]
                writer.writerow([*where, column.heading, *numbers])
        return out.getvalue()

    def markdown(self) -> str:
        """The table, every seed below it, and the notes."""

        def lines(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cell.translate(MARKDOWN) for cell in cells) + " |"

        head = [lines(["Model", "Seeds", *(column.heading for column in self.columns)])]
        head += ["|:--|--:|" + "--:|" * len(self.columns)]
        parts = [f"## {self.title.translate(MARKDOWN)}"]
        for seeds, what in ((False, ""), (True, ", every seed")):
            for block, rows in self.blocks(seeds=seeds).items():
                body = [lines([row.title, row.seeds, *self.texts(row)]) for row in rows]
                parts += [f"### {block.translate(MARKDOWN)}{what}"] if body else []
                parts += ["\n".join(head + body)] if body else []
        parts += ["\n".join(f"- {note.translate(MARKDOWN)}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """A booktabs table, its notes as the small print below it."""
        width = len(self.columns) + 2

        def stacked(column: Column, cell: Cell, source: str) -> str:
            value = column.text(cell.value).translate(LATEX)
            if cell.value is None or source == "paper":
                return value
            interval = column.interval(cell).translate(LATEX)
            return rf"\shortstack[r]{{{value}\\{{\tiny {interval}}}}}"

        def lines(row: Row) -> str:
            cells = zip(self.columns, row.cells, strict=True)
            texts = [stacked(column, cell, row.source) for column, cell in cells]
            return " & ".join([row.title.translate(LATEX), row.seeds.translate(LATEX), *texts])

        parts = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering", r"\small"]
        parts += [r"\setlength{\tabcolsep}{4pt}", rf"\caption{{{self.title.translate(LATEX)}}}"]
        parts += [rf"\label{{tab:{self.name}}}", rf"\begin{{tabular}}{{lr*{{{width - 2}}}{{r}}}}"]
        headings = [
            rf"\shortstack[r]{{{r'\\'.join(c.heading.translate(LATEX).split())}}}"
            for c in self.columns
        ]
        parts += [r"\toprule", " & ".join(["Model", "Seeds", *headings]) + r" \\"]
        for block, rows in self.blocks(seeds=False).items():
            heading = rf"\multicolumn{{{width}}}{{l}}{{\textit{{{block.translate(LATEX)}}}}}"
            parts += [r"\midrule", heading + r" \\", *(lines(row) + r" \\" for row in rows)]
        parts += [r"\bottomrule", r"\end{tabular}", "", r"\footnotesize"]
        parts += [rf"{note.translate(LATEX)}\par" for note in self.notes]
        return "\n".join([*parts, r"\end{table}"]) + "\n"

    def terminal(self) -> "RenderableType":
        """For rich: a table a block, the interval under each value, the paper's row dim."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        parts: list[RenderableType] = [Text(self.title, "bold")]
        for block, rows in self.blocks(seeds=False).items():
            out = RichTable(title=block, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            out.add_column("Model")
            for column in self.columns:
                out.add_column(column.heading, justify="right")
            for row in rows:
                ours, texts = row.source == "measured", []
                for column, cell in zip(self.columns, row.cells, strict=True):
                    texts.append(Text(column.text(cell.value), "bold" if ours else "dim"))
                    if ours and cell.value is not None:
                        texts[-1].append(f"\n{column.interval(cell)}", "not bold dim")
                label = Text(row.label if ours else "  paper", "" if ours else "dim")
                if row.num_seeds:
                    label.append(f"\n{row.num_seeds} seed{'s' * (row.num_seeds > 1)}", "dim")
                out.add_row(label, *texts, end_section=not ours)
            parts.append(out)
        return Group(*parts, *(Text(f"- {note}", "dim") for note in self.notes))


def measurements_view(
    records: Sequence[Record], reference_records: Sequence[Record] | None = None
) -> "RenderableType":
    """One run's measurements for rich, beside the paper's and the true world model's.

    `reference_records`: the known-answer subject "oracle" on the same task; others are ignored.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    if not records:
        return Text("No measurements.")
    first = records[0]
    name = next((n for n in names() if LAYOUTS[n].task == first.task), "")
    columns = LAYOUTS[name].columns if name else ()
    paper = paper_row(name, first.objective, first.objective_parameters.get("horizon"))
    truth = {
        (r.probe, r.metric, r.condition): r.value
        for r in reference_records or ()
        if r.objective == "oracle" and r.task_parameters == first.task_parameters
    }
    [variant] = told_apart([first.objective_parameters], VARIANT)
    who = f"{first.task}, {_label(first.objective, variant)}, {first.scale} scale"
    out = RichTable(
        title=f"{who}, seed {first.seed}, {first.step:,} steps",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("Measured", "", "Ours [95% interval]", "Paper", "True world", "n", "Skipped"):
        out.add_column(heading, justify="left" if heading in ("Measured", "") else "right")
    reasons = []
    for facts, group in grouped(records, lambda r: {"probe": r.probe}):
        out.add_row(Text(facts["probe"].replace("_", " "), "bold"))
        for record in group:
            exact = next((c for c in columns if c.shows(record)), None)
            like = (c for c in columns if (c.probe, c.metric) == (record.probe, record.metric))
            column = exact or next(like, Column("", "", "", "", percent=False, digits=3))
            unit = "%" if column.percent else ""
            theirs = paper.get(exact.key) if exact else None
            true = truth.get((record.probe, record.metric, record.condition))
            true = None if true is None else true * (100 if column.percent else 1)
            arrow = {True: "↑", False: "↓", None: ""}[record.higher_is_better]
            condition = f"  {record.condition}" if record.condition else ""
            out.add_row(
                Text(f"  {record.metric.replace('_', ' ')}").append(condition, "dim"),
                arrow,
                Text(column.full(column.cell([record])), "bold"),
                Text(column.text(theirs), "dim"),
                column.text(true),
                f"{record.n:,}",
                f"{record.n_skipped:,}" if record.n_skipped else "0",
            )
            if record.skipped_because:
                reasons.append(f"- {record.probe}, {record.metric}: {record.skipped_because}")
    return Group(out, *(Text(reason, "dim") for reason in dict.fromkeys(reasons)))
