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

from nextlat_bench.registry import check_name
from nextlat_bench.report.records import (
    Record,
    distinct,
    flat,
    grouped,
    one_protocol,
    paper_protocol,
    paper_row,
    say,
    setting,
    told_apart,
    variants_of,
)
from nextlat_bench.report.statistics import Estimate, over_seeds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable

__all__ = ["Column", "Row", "Table", "names", "table"]

DASH = "–"  # noqa: RUF001  missing is a dash, never zero
SCALES = ("paper", "laptop", "smoke")
LABELS = {"gpt": "GPT", "mtp": "MTP", "jtp": "JTP", "nextlat": "NextLat", "bst": "BST"}
LABELS |= {"oracle": "True world model"}
MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_|<"})
LATEX = str.maketrans({c: f"\\{c}" for c in "%&#_${}"}) | str.maketrans(
    {"|": r"\textbar{}", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", DASH: "--", "<": r"\textless{}", ">": r"\textgreater{}"}
)
BREAK = "\\\\"
LATEX_TABLE = r"""%% needs \usepackage{booktabs}
\begin{table}\centering\small\setlength{\tabcolsep}{4pt}
\caption{%(title)s}\label{tab:%(name)s}
\begin{tabular}{%(columns)s}
\toprule
%(head)s \\
%(body)s
\bottomrule
\end{tabular}

\footnotesize
%(notes)s
\end{table}
"""
ABOUT_CELLS = """Cells: the mean over seeds and its 95% interval, bootstrapped over seeds where
there are several, the probe's own over its trials where there is one. Where a probe ran with
several parameters, a cell has those of most seeds, then of most trials. A dash is missing or not
applicable, never zero.""".replace("\n", " ")


@dataclass(frozen=True)
class Column:
    """What a column shows; `key` names the paper's number in published.toml."""

    key: str
    heading: str
    probe: str
    metric: str
    condition: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)  # a probe's, where it matters
    form: str = ".1f"

    @property
    def percent(self) -> bool:
        return self.heading.endswith("%")

    def shows(self, record: Record) -> bool:
        there = (record.probe, record.metric, record.condition)
        given = record.probe_parameters
        return there == (self.probe, self.metric, self.condition) and all(
            given.get(name, value) == value for name, value in self.parameters.items()
        )

    def cell(self, records: Sequence[Record]) -> Estimate:
        """One record a seed, of one protocol -> the estimate over them, in the heading's unit."""
        return over_seeds(records).times(100.0 if self.percent else 1.0)

    def text(self, value: float | None) -> str:
        return DASH if value is None else format(value, self.form)

    def lines(self, cell: Estimate) -> list[str]:
        """The value and, where it is ours, its interval."""
        interval = f"[{self.text(cell.low)}, {self.text(cell.high)}]"
        return [self.text(cell.value), *[interval] * (cell.num_seeds > 0)]


@dataclass(frozen=True)
class Row:
    """`source`: "measured" (over seeds), "seed 0" (one of them) or "paper"."""

    block: str
    label: str
    source: str
    num_seeds: int
    cells: tuple[Estimate, ...]

    @property
    def heads(self) -> list[str]:
        """Who, and of how many seeds."""
        who = self.label if self.source == "measured" else f"{self.label}, {self.source}"
        return [who, str(self.num_seeds or DASH)]


@dataclass(frozen=True)
class Layout:
    """A table as data: who has a row in any case, and what headings and labels say."""

    title: str
    task: str
    rows: tuple[str, ...]  # objectives; other trained ones follow, before the last of these
    columns: tuple[Column, ...]
    settings: dict[str, str]  # dotted task parameter -> how a block's heading writes it

    def shown(self, records: Iterable[Record]) -> list[str]:
        others = {r.objective for r in records if r.step > 0} - set(self.rows)
        return [*self.rows[:-1], *sorted(others), self.rows[-1]]

    def cells(self, records: Sequence[Sequence[Record]]) -> tuple[Estimate, ...]:
        return tuple(c.cell(some) for c, some in zip(self.columns, records, strict=True))


DETOUR = "p=0.75,replace=random"
LAYOUTS = {
    "taxi": Layout(
        "Table 1. Taxi: did it learn the street map?",
        task="taxi",
        rows=("gpt", "mtp", "jtp", "nextlat", "oracle"),
        columns=(
            Column("next_token", "Next-token %", "next_token", "legal_top1"),
            Column("legal", "Valid, legal %", "trajectories", "legal"),
            Column("reached", "Valid, reached %", "trajectories", "reached"),
            Column(
                *("compression", "Compression", "compression", "precision"),
                parameters={"protocol": "precision"},
                form=".2f",
            ),
            Column(
                *("rank", "Latent rank", "rank", "effective_rank"),
                parameters={"positions": "all"},
            ),
            Column("detour_legal", "Detours 0.75, legal %", "detours", "legal", DETOUR),
            Column("detour_reached", "Detours 0.75, reached %", "detours", "reached", DETOUR),
        ),
        settings={"streets.source": "{}", "radius": "radius {:g} m", "generator": "{} walks"},
    )
}
VARIANT = {"horizon": "d={}"}
PLAIN = Column("", "", "", "", form=".4g")  # how a metric of no table is written


def names() -> list[str]:
    """The tables there are."""
    return sorted(LAYOUTS)


def label_of(objective: str, variant: str) -> str:
    return LABELS.get(objective, objective) + (f" ({variant})" if variant else "")


def _rows(name: str, layout: Layout, block: str, records: Sequence[Record]) -> list[Row]:
    """The rows of one block: for each objective ours, its seeds, and the paper's."""
    rows = []
    for objective in layout.shown(records):
        variants = variants_of([r for r in records if r.objective == objective]) or [({}, [])]
        papers = [paper_row(name, objective, facts.get("horizon")) for facts, _ in variants]
        labels = told_apart([facts for facts, _ in variants], VARIANT)
        for i, (_, group) in enumerate(variants):
            label, seeds = label_of(objective, labels[i]), sorted({r.seed for r in group})
            chosen = [one_protocol(filter(c.shows, group)) for c in layout.columns]
            rows.append(Row(block, label, "measured", len(seeds), layout.cells(chosen)))
            for seed in seeds:
                its = [[r for r in some if r.seed == seed] for some in chosen]
                rows.append(Row(block, label, f"seed {seed}", 1, layout.cells(its)))
            if papers[i] and papers[i] not in papers[i + 1 :]:
                label = label_of(objective, *told_apart([papers[i]], VARIANT))
                cells = tuple(Estimate(papers[i].get(column.key)) for column in layout.columns)
                rows.append(Row(block, label, "paper", 0, cells))
    return rows


def _remarks(layout: Layout, records: Sequence[Record]) -> list[str]:
    """What a reader must know of a block: how it was measured, and what is missing from it."""
    facts, shown = setting(records[0]), layout.shown(records)
    about = say(facts, sorted(facts.keys() - {"scale", *layout.settings}))
    if steps := {r.step for r in records if r.step > 0}:
        about.append(f"trained for {_span(steps)} steps")
    for decoder, _ in grouped((r for r in records if r.decoder), lambda r: flat(r.decoder)):
        about.append(f"decoder: {', '.join(say(decoder, decoder))}")
    notes = [", ".join(about)]
    for column in layout.columns:
        mine = [r for r in records if column.shows(r) and r.objective in shown]
        for protocol, group in grouped(mine, lambda r: r.probe_parameters):
            n = f"{_span(r.n for r in group if r.value is not None)} trials a seed"
            notes.append(f"probe {column.probe}: {', '.join([n, *say(protocol, protocol)])}")
        for why, group in grouped(mine, lambda r: {"because": r.skipped_because}):
            because = f"({why['because'] or 'no reason given'})"
            if skipped := sum(r.n_skipped for r in group):
                notes.append(f"{column.heading}: {skipped:,} trials skipped in all {because}")
            if who := {label_of(r.objective, f"seed {r.seed}") for r in group if r.value is None}:
                notes.append(f"{column.heading}: no value for {', '.join(sorted(who))} {because}")
    if others := sorted({r.objective for r in records} - set(shown)):
        notes.append(f"measured but not shown: {', '.join(others)}")
    return notes


def _span(numbers: Iterable[int]) -> str:
    ordered = sorted(set(numbers))
    return " to ".join(f"{k:,}" for k in dict.fromkeys([*ordered[:1], *ordered[-1:]])) or DASH


def table(name: str, records: Iterable[Record]) -> "Table":
    """The named table. Records of other tasks are left out; their order does not matter."""
    layout = LAYOUTS[check_name("table", name, names())]
    blocks = grouped((r for r in distinct(records) if r.task == layout.task), setting)
    blocks.sort(key=lambda b: (*(b[0]["scale"] != scale for scale in SCALES), json.dumps(b[0])))
    headings = told_apart([facts for facts, _ in blocks], {"scale": "{} scale"} | layout.settings)
    rows, notes = [], [ABOUT_CELLS]
    for heading, (_, group) in zip(headings, blocks, strict=True):
        rows += _rows(name, layout, heading, group)
        first, *rest = _remarks(layout, group)
        here = f"{heading}: " * (len(blocks) > 1)
        notes += [f"{heading}: {first}.", *(f"{here}{note}." for note in rest)]
    rows = rows or _rows(name, layout, "nothing measured yet", [])
    unique = tuple(dict.fromkeys([*notes, *paper_protocol(name)]))
    return Table(name, layout.title, layout.columns, tuple(rows), unique)


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
                writer.writerow([*where, column.heading, cell.value, cell.low, cell.high, *counts])
        return out.getvalue()

    def markdown(self) -> str:
        """The table, every seed below it, and the notes."""

        def joined(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cell.translate(MARKDOWN) for cell in cells) + " |"

        head = [joined(["Model", "Seeds", *(column.heading for column in self.columns)])]
        head += ["|:--|--:|" + "--:|" * len(self.columns)]
        parts = [f"## {self.title.translate(MARKDOWN)}"]
        for seeds, more in ((False, ""), (True, ", every seed")):
            for block, rows in self.blocks(seeds=seeds).items():
                texts = ([*row.heads, *map(" ".join, self.lines(row))] for row in rows)
                body = "\n".join([*head, *map(joined, texts)])
                parts += [f"### {block.translate(MARKDOWN)}{more}", body]
        parts += ["\n".join(f"- {note.translate(MARKDOWN)}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

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
            "name": self.name,
            "columns": "lr" + "r" * num_columns,
            "head": " & ".join(["Model", "Seeds", *headings]),
            "body": "\n".join(body),
            "notes": "\n".join(rf"{note.translate(LATEX)}\par" for note in self.notes),
        }

    def terminal(self, width: int = 100) -> "RenderableType":
        """For rich: the interval under each value, the paper's row dim. Fits in 80 columns."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(self.title, "bold")]
        for block, rows in self.blocks(seeds=False).items():
            headings = [c.heading.replace("-", "-\n").replace(" ", "\n") for c in self.columns]
            out = rich_table(block, ["Model"], headings)
            for row in rows:
                paper = row.source == "paper"
                seeds = f"\n{row.num_seeds} seed{'s' * (row.num_seeds > 1)}" * bool(row.num_seeds)
                texts = [Text("  paper", "dim") if paper else Text(row.label).append(seeds, "dim")]
                for value, *interval in self.lines(row):
                    texts.append(Text(value, "dim" if paper else "bold"))
                    for text in interval:  # [1, 2] is written 1–2, or below each other
                        between = ", " if DASH in text else DASH + "\n" * (width < 100)
                        texts[-1].append("\n" + text[1:-1].replace(", ", between), "not bold dim")
                out.add_row(*texts, end_section=paper)
            parts.append(out)
        return Group(*parts, *(Text(f"- {note}", "dim") for note in self.notes))


def rich_table(title: str, left: Iterable[str], right: Iterable[str]) -> "RichTable":
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    out = RichTable(*left, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    out.title = Text(title)  # a name may hold rich's markup
    for heading in right:
        out.add_column(heading, justify="right")
    for column in out.columns:
        column.overflow = "fold"  # where space is short nothing is cut
    return out
