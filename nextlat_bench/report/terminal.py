"""Tables for the terminal: in parts where they are too wide, and no number broken in two."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nextlat_bench.report.columns import DASH

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = ["below", "fitting", "rich_table", "valued"]

NARROW = 100  # characters; an interval's ends stand below each other in less
LONGEST_NAME = 22  # characters; longer ones are folded where there is little room
BETWEEN = 2  # columns


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


def below(lines: Sequence[str], width: int) -> str:
    """A value, and its interval in the lines below: [1, 2] is written 1–2."""
    value, *intervals = lines
    between = DASH + "\n" * (width < NARROW)
    texts = (i[1:-1].replace(", ", ", " if DASH in i else between) for i in intervals)
    return "\n".join([value, *texts])


def valued(cell: str, style: str) -> "Text":
    """The first line in a style, those below dim."""
    from rich.text import Text

    value, *rest = cell.split("\n")
    return Text(value, style).append("".join(f"\n{line}" for line in rest), "not bold dim")


def fitting(lines: Sequence[Sequence[str]], width: int, names: Iterable[str] = ()) -> list[slice]:
    """The columns of some lines of cells, in as few runs of about one length as fit beside the
    names of the lines."""
    needs = [
        BETWEEN + max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(*lines, strict=True)
    ]
    room = width - BETWEEN - min(LONGEST_NAME, max(map(len, names), default=0))
    for runs in range(1, len(needs) + 1):
        size = math.ceil(len(needs) / runs)
        cuts = [slice(begin, begin + size) for begin in range(0, len(needs), size)]
        if size == 1 or all(sum(needs[cut]) <= room for cut in cuts):
            return cuts
    return []
