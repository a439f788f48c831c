"""What a figure is made of: rows of a table, of its own columns.

Of several variants of one objective a figure shows the one of most seeds, then of most steps; the
table has them all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from nextlat_bench.report.columns import REFERENCES, Column, Layout
from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.layouts import layout_of
from nextlat_bench.report.records import Record, distinct
from nextlat_bench.report.tables import Block, Row, blocks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Columns", "Drawing", "Scene", "has_value", "only", "ours", "seeds_beside", "value"]

Columns: TypeAlias = Callable[[Layout, Sequence[Record]], tuple[Column, ...]]


@dataclass(frozen=True)
class Scene:
    """What is drawn: a layout of the figure's own columns, and blocks of the rows to be shown."""

    layout: Layout
    blocks: list[Block]
    exhibits: Exhibits

    @property
    def is_measured(self) -> bool:
        rows = [row for block in self.blocks for row in block.rows if row.source == "measured"]
        return any(has_value(row) for row in rows if row.objective not in REFERENCES)

    @cached_property
    def objectives(self) -> list[str]:
        """Those with a number, in the table's order; references are not drawn."""
        rows = [row for block in self.blocks for row in block.rows]
        shown = {row.objective for row in rows if has_value(row)}
        order = dict.fromkeys(o for b in self.blocks for o in self.layout.shown(b.records))
        return [o for o in order if o in shown and o not in REFERENCES]


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
        mine = [r for r in rows if r.task == layout.task]
        mine += self.more(mine, exhibits)
        layout = replace(layout, columns=self.columns(layout, mine))
        blocks = [
            replace(block, rows=chosen(block.rows, self.by_horizon))
            for block in self.keep(blocks_of(self.table, layout, mine))
        ]
        return Scene(layout, blocks, exhibits)


def chosen(rows: Sequence[Row], by_horizon: bool) -> list[Row]:
    """One variant of each objective (or of each of its horizons): mean, seeds and paper's row."""

    def who(row: Row) -> tuple[str, object]:
        return row.objective, row.variant.get("horizon") if by_horizon else None

    best: dict[tuple[str, object], Row] = {}
    for row in rows:
        if row.source == "measured":
            best[who(row)] = max(best.get(who(row), row), row, key=weight)
    return [r for r in rows if r.source == "paper" or r.label == best[who(r)].label]


def weight(row: Row) -> tuple[int, int]:
    return row.num_seeds, row.variant.get("step", 0)


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
