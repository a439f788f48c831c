"""Tables of texts, written as Markdown, LaTeX, CSV and for the terminal as `tables.Table` is."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nextlat_bench.report.columns import DASH
from nextlat_bench.report.terminal import fitting, rich_table

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["BREAK", "LATEX", "LATEX_TABLE", "Grid", "Sheet", "latex_label"]

MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_|<"})
LATEX = str.maketrans({c: f"\\{c}" for c in "%&#_${}"}) | str.maketrans(
    {"|": r"\textbar{}", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", DASH: "--", "<": r"\textless{}", ">": r"\textgreater{}"}
)
FORMULA = re.compile("[=+@-].")  # what a spreadsheet would compute, or worse
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


@dataclass(frozen=True)
class Grid:
    """One table. A cell may have several lines; the first column names the row.

    numbers: the cells but the first are short, and stand to the right.
    detail: left out of the summary, of LaTeX and of the terminal.
    """

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = False
    detail: bool = False


@dataclass(frozen=True)
class Sheet:
    """Some tables of texts with their notes; `csv_rows`, the head first, hold the numbers."""

    name: str
    title: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    csv_rows: tuple[tuple[object, ...], ...]

    def csv(self) -> str:
        out = io.StringIO()
        rows = ([_csv_cell(cell) for cell in row] for row in self.csv_rows)
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue()

    def markdown(self) -> str:
        """The tables, the notes, then what is detail."""
        shown, details = (
            [_markdown(grid) for grid in self.grids if grid.detail == which]
            for which in (False, True)
        )
        notes = "\n".join(f"- {to_markdown(note)}" for note in self.notes)
        parts = [f"## {to_markdown(self.title)}", *shown, "### Notes", notes, *details]
        return "\n\n".join(parts) + "\n"

    def summary(self) -> str:
        """In Markdown too, without the title, the details and the notes."""
        return "\n\n".join(_markdown(grid) for grid in self.grids if not grid.detail) + "\n"

    def latex(self) -> str:
        """A booktabs table for each that is no detail; the notes in small print under the last, or
        alone."""
        shown = [grid for grid in self.grids if not grid.detail]
        notes = "\n".join(rf"{note.translate(LATEX)}\par" for note in self.notes)
        texts = []
        for number, grid in enumerate(shown):
            label = self.name if number == 0 else f"{self.name}-{number + 1}"
            body = "\n".join(_latex_row(row) for row in grid.rows)
            parts = {
                "name": latex_label(label),
                "head": _latex_row(grid.head).removesuffix(BREAK).strip(),
            }
            parts |= {"title": f"{self.title} {grid.heading}".translate(LATEX)}
            parts |= {"columns": _latex_columns(grid), "body": f"\\midrule\n{body}"}
            parts |= {"notes": notes if grid is shown[-1] else ""}
            texts.append(LATEX_TABLE % parts)
        return "\n".join(texts) if texts else f"{self.title.translate(LATEX)}\n\n{notes}\n"

    def terminal(self, width: int = 100) -> "RenderableType":
        """For rich."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(self.title, "bold")]
        for grid in self.grids:
            if grid.detail:
                continue
            heads, cuts = list(grid.head), [slice(None)]
            if grid.numbers:
                heads = [text.replace(" ", "\n") for text in heads]
                cells = [line[1:] for line in (heads, *grid.rows)]
                cuts = fitting(cells, width, [row[0] for row in grid.rows])
            for cut in cuts:
                first, *others = heads[:1] + heads[1:][cut]
                sides = ([first], others) if grid.numbers else ([first, *others], [])
                out = rich_table(grid.heading, *sides)
                for name, *texts in grid.rows:
                    out.add_row(*map(Text, (name, *texts[cut])), end_section=not grid.numbers)
                parts.append(out)
        return Group(*parts, *(Text(f"- {note}", "dim") for note in self.notes))


def _csv_cell(cell: object) -> object:
    """No text that a spreadsheet would run, and ten digits of a number: in its last ones versions
    of SciPy differ."""
    if isinstance(cell, float):
        return float(f"{cell:.10g}")
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def to_markdown(text: str) -> str:
    """As text: no table's end, no tag, no link and no picture."""
    return text.translate(MARKDOWN).replace("](", "]\\(")


def latex_label(name: str) -> str:
    """What \\ref asks for: a table's name, of a task of one's own without what LaTeX would run."""
    return re.sub(r"[^\w-]", "", name)


def _markdown(grid: Grid) -> str:
    def joined(cells: Iterable[str]) -> str:
        between = " " if grid.numbers else "; "
        texts = (to_markdown(cell.replace("\n", between)) for cell in cells)
        return "| " + " | ".join(texts) + " |"

    sides = "|:--" + ("|--:" if grid.numbers else "|:--") * (len(grid.head) - 1) + "|"
    lines = [joined(grid.head), sides, *map(joined, grid.rows)]
    return f"### {to_markdown(grid.heading)}\n\n" + "\n".join(lines)


def _latex_row(cells: Iterable[str]) -> str:
    # in braces, or the [ of an interval would be read as the line break's argument
    texts = (cell.translate(LATEX).replace("\n", r"\newline ") for cell in cells)
    return " & ".join(f"{{{text}}}" for text in texts) + " " + BREAK


def _latex_columns(grid: Grid) -> str:
    """Columns that break their lines, as wide as their longest line asks in proportion."""
    columns = zip(grid.head, *grid.rows, strict=True)
    lines = [[line for cell in column for line in cell.split("\n")] for column in columns]
    asked = [min(max(map(len, column)), 40) for column in lines]
    return "".join(rf"p{{{0.85 * a / sum(asked):.3f}\linewidth}}" for a in asked)
