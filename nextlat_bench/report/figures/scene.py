"""What a figure is made of: rows of a table, of its own columns.

Of several variants of one objective that have a number a figure shows the one of most seeds, then
of fewest added settings, then of most steps, and says which; the table has them all. Models of
one's own are all shown.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from nextlat_bench.report.columns import REFERENCES, Column, Layout, label_of
from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.facts import number
from nextlat_bench.report.layouts import layout_of
from nextlat_bench.report.records import Distinct, Record, distinct
from nextlat_bench.report.tables import Block, Row, blocks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Columns", "Drawing", "Scene", "has_value", "only", "ours", "seeds_beside", "value"]

Columns: TypeAlias = Callable[[Layout, Sequence[Record]], tuple[Column, ...]]


@dataclass(frozen=True)
class Scene:
    """What is drawn: a layout of the figure's own columns, and blocks of the rows to be shown.

    of_several: the labels of variants that stand for others, too.
    """

    layout: Layout
    blocks: list[Block]
    exhibits: Exhibits
    by_horizon: bool
    of_several: list[str]

    @property
    def rows(self) -> list[Row]:
        return [row for block in self.blocks for row in block.rows]

    @property
    def is_measured(self) -> bool:
        mine = [row for row in self.rows if row.source == "measured"]
        return any(has_value(row) for row in mine if row.objective not in REFERENCES)

    @cached_property
    def objectives(self) -> list[str]:
        """Those with a number, in the table's order, and people's own models; references are not
        drawn."""
        shown = {row.drawn_as for row in self.rows if has_value(row)}
        order = dict.fromkeys(row.drawn_as for row in self.rows)
        return [who for who in order if who in shown and who not in REFERENCES]

    @property
    def of_fewer(self) -> dict[str, list[str]]:
        """Such as "2 of 3" -> the rows of which two seeds are drawn and three were measured."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            seeds = max((cell.num_seeds for cell in row.cells), default=0)
            if row.source == "measured" and 0 < seeds < row.num_seeds:
                found.setdefault(f"{seeds} of {row.num_seeds}", []).append(row.label)
        return found

    @cached_property
    def labels(self) -> dict[str, str]:
        """Objective -> what the legend calls it, with the horizons that were chosen for it."""
        found = {}
        for who in self.objectives:
            rows = [r for r in self.rows if r.drawn_as == who and has_value(r)]
            mine = [] if self.by_horizon else [r for r in rows if r.source == "measured"]
            horizons = (r.variant.get("horizon") for r in mine)  # block by block
            said = dict.fromkeys(f"d={h}" for h in horizons if h is not None)
            label = label_of(who, ", ".join(said))
            found[who] = no_formula(label)
        return found


@dataclass(frozen=True)
class Drawing:
    """How a figure is made. `caption`: a sentence on what is to be seen.

    table: whose rows it shows, beside whose numbers of the paper.
    columns: what it shows of them.
    by_horizon: each horizon is a variant that is shown.
    keep: the blocks that are shown.
    more: further records of these runs, made of exhibits.
    """

    table: str
    caption: str
    columns: Columns
    make: Callable[[Scene], "Figure | None"]
    by_horizon: bool = False
    keep: Callable[[list[Block]], list[Block]] = lambda blocks: blocks
    more: Callable[[Sequence[Record], Exhibits], list[Record]] = lambda records, exhibits: []

    def scene(self, records: Iterable[Record], exhibits: Exhibits) -> Scene:
        rows = distinct(records)
        layout = layout_of(self.table, rows)
        mine = Distinct(r for r in rows if r.task == layout.task)
        if more := self.more(mine, exhibits):
            mine = distinct([*mine, *more])
        layout = replace(layout, columns=self.columns(layout, mine))
        blocks, of_several = [], []
        for block in self.keep(blocks_of(self.table, layout, mine)):
            rows_of_it, several = chosen(block.rows, self.by_horizon)
            blocks.append(replace(block, heading=no_formula(block.heading), rows=rows_of_it))
            of_several += several
        return Scene(layout, blocks, exhibits, self.by_horizon, list(dict.fromkeys(of_several)))


def chosen(rows: Sequence[Row], by_horizon: bool) -> tuple[list[Row], list[str]]:
    """One variant of each objective (or of each of its horizons): mean, seeds and paper's row; and
    the labels of those that were chosen of several."""

    def who(row: Row) -> tuple[str, object]:
        return row.drawn_as, number(row.variant, "horizon") if by_horizon else None

    variants: dict[tuple[str, object], list[Row]] = {}
    for row in rows:
        if row.source == "measured":
            variants.setdefault(who(row), []).append(row)
    best = {key: max(its, key=weight) for key, its in variants.items()}
    kept = [r for r in rows if r.source == "paper" or r.label == best[who(r)].label]
    several = [best[key] for key, its in variants.items() if sum(map(has_value, its)) > 1]
    drawn = (row for row in several if has_value(row) and row.objective not in REFERENCES)
    return kept, [row.label for row in drawn]


def no_formula(text: str) -> str:
    """As matplotlib shows it letter by letter: it reads what stands between two $ as TeX."""
    return text.replace("$", r"\$")


def weight(row: Row) -> tuple[bool, int, int, int]:
    """Of equally many seeds the setting that adds fewest to the usual ones, then the longest."""
    return has_value(row), row.num_seeds, -len(row.variant), row.variant.get("step", 0)


def only(*keys: str) -> Columns:
    """These of the table's columns."""

    def columns(layout: Layout, _: Sequence[Record]) -> tuple[Column, ...]:
        known = {column.key: column for column in layout.columns}
        return tuple(known[key] for key in keys)

    return columns


def ours(blocks: list[Block]) -> list[Block]:
    """Without those that the paper alone has."""
    return [block for block in blocks if block.records]


def seeds_beside(rows: Sequence[Row]) -> list[tuple[float, Row]]:
    """Each seed and where it stands, between -1/2 and 1/2: side by side, since seeds agree."""
    seeds = [row for row in rows if row.source.startswith("seed")]
    middle, wide = (len(seeds) - 1) / 2, len(seeds) + 2
    return [((i - middle) / wide, row) for i, row in enumerate(seeds)]


def value(row: Row, column: int = 0) -> float:
    """NaN, which is not drawn, where there is none."""
    found = row.cells[column].value
    return float("nan") if found is None else found


def has_value(row: Row) -> bool:
    return any(cell.value is not None for cell in row.cells)
