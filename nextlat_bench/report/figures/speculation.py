"""Self-speculative decoding: what is accepted of a draft, and what that saves."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from nextlat_bench.report.columns import Column, Layout
from nextlat_bench.report.figures.curves import measured
from nextlat_bench.report.figures.scene import Drawing, Scene, has_value, seeds_beside, value
from nextlat_bench.report.figures.style import (
    GREY,
    SEED,
    canvas,
    dashes_of,
    legend,
    line_of,
    look,
    means,
    one_line,
)
from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import Block, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DRAFTS"]

PLACE = re.compile(r"draft=(\w+),(?:batch=1,)?kind=(\w+)")
# metric -> its probe, what it is called, and how the figure's one condition is written
METRICS = {
    "accepted": ("speculation", "Accepted", "draft={},kind={}"),
    "bound": ("speculation", "Tokens a round at most", "draft={},kind={}"),
    "speedup": ("speculation_speed", "Speed-up", "draft={},batch=1,kind={}"),
}
SAID = {"accepted": "accepted tokens a round", "speedup": "speed-up, one text at a time"}


def columns(layout: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    """Each metric, kind of text and length of a draft, which need not all have been measured; the
    table's own where it is one of them, beside which the paper's number stands."""
    own = {(c.metric, c.conditions): c.key for c in layout.columns}
    found = [match.groups() for r in records if (match := PLACE.fullmatch(r.condition))]
    places = product({draft for draft, _ in found}, {kind for _, kind in found})
    ordered = sorted(places, key=lambda place: (place[1], length(place[0])))
    return tuple(
        Column(
            own.get((metric, (where.format(draft, kind),)), ""),
            *(f"{said}, {kind}, draft {draft}", probe, metric),
            (where.format(draft, kind),),
            {"sampled": False},
            form=".2f",
        )
        for metric, (probe, said, where) in METRICS.items()
        for draft, kind in ordered
    )


def length(draft: str) -> float:
    return int(draft) if draft.isdigit() else float("inf")


def place(column: Column) -> tuple[str, str]:
    """Its draft and kind."""
    match = PLACE.fullmatch(column.conditions[0])
    assert match
    return match[1], match[2]


def drafts(scene: Scene) -> "Figure":
    """For each setting accepted tokens above and the speed-up below, a panel a kind of text."""
    at = {(c.metric, *place(c)): i for i, c in enumerate(scene.layout.columns)}
    kinds = sorted({kind for _, _, kind in at})
    known = sorted({draft for _, draft, _ in at}, key=length)
    drawn = [row for row in scene.rows if has_value(row)]
    dashes = dashes_of(row.variant.get("horizon", 0) for row in drawn)
    ours = {m for row in drawn if row.num_seeds for m in with_value(row, scene.layout.columns)}
    said_of = {metric: said for metric, said in SAID.items() if metric in ours}
    out, axes = canvas(len(said_of) * len(scene.blocks), len(kinds), height=3.0)
    panels = iter(axes)
    for block in scene.blocks:
        for metric, said in said_of.items():
            for k, kind in enumerate(kinds):
                panel = next(panels)
                bounds = [at["bound", draft, kind] for draft in known]
                columns = [at[metric, draft, kind] for draft in known]
                lines(panel, block, columns, bounds if metric == "accepted" else [], dashes)
                seeds(panel, block, columns)
                panel.set_xticks(range(len(known)), known)
                panel.set_xlim(-0.3, len(known) - 0.4)
                if metric == "speedup":
                    panel.axhline(1, color=GREY, linewidth=1.0)
                if metric == [*said_of][-1]:
                    panel.set_xlabel("tokens a draft")
                if k == 0:
                    panel.set_ylabel(said)
                if metric == next(iter(said_of)):
                    panel.set_title(f"{block.heading}\n{kind}" if k == 0 else kind, loc="left")
    for first in range(0, len(axes), len(kinds)):  # kinds of text are compared at one height
        top = max(panel.get_ylim()[1] for panel in axes[first : first + len(kinds)])
        for panel in axes[first : first + len(kinds)]:
            panel.set_ylim(0, top)
    entries = means(scene.labels)
    entries |= {f"d = {d}": one_line(color=GREY, linestyle=its) for d, its in dashes.items() if d}
    entries["one seed"] = one_line(**SEED)
    entries["most possible"] = one_line(color=GREY, linestyle="none", marker="_", markersize=11)
    entries["paper"] = one_line(color="none", marker="D", markeredgecolor=GREY)
    legend(out, entries)
    return out


def lines(
    panel: "Axes", block: Block, columns: list[int], bounds: list[int], dashes: Mapping[int, Any]
) -> None:
    """By draft, a column each: our means, what of a draft could be accepted at most, and the
    paper's numbers."""
    for row in filter(has_value, block.rows):
        points = [(x, value(row, i)) for x, i in enumerate(columns)]
        colour, marker = look(row.drawn_as)
        if row.source == "measured":
            looks = line_of(row.drawn_as)
            looks["linestyle"] = dashes[row.variant.get("horizon", 0)]
            panel.plot(*zip(*points, strict=True), **looks)
            if bounds:  # one of a round is always accepted
                most = [(x, value(row, i) - 1) for x, i in enumerate(bounds)]
                looks = {"color": colour, "linestyle": "none", "marker": "_"}
                panel.plot(*zip(*most, strict=True), **looks, markersize=11)
        elif row.source == "paper":
            looks = {"color": "none", "marker": marker, "markeredgecolor": colour}
            panel.plot(*zip(*points, strict=True), **looks, zorder=4)  # over our lines


def seeds(panel: "Axes", block: Block, columns: list[int]) -> None:
    """A mark a seed, model beside model."""
    for g, group in enumerate(by_label(block.rows)):
        looks = SEED | {"markeredgecolor": look(group[0].drawn_as)[0], "markersize": 3.5}
        for beside, row in seeds_beside(group):
            for x, i in enumerate(columns):
                panel.plot(x + 0.06 + 0.04 * (g + beside), value(row, i), **looks)


def with_value(row: Row, columns: Sequence[Column]) -> list[str]:
    """The metrics of which it has a value."""
    cells = zip(columns, row.cells, strict=True)
    return sorted({column.metric for column, cell in cells if cell.value is not None})


def by_label(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each model."""
    labels = dict.fromkeys(row.label for row in rows if row.num_seeds)
    return [[row for row in rows if row.label == label] for label in labels]


DRAFTS = Drawing(
    "speculation",
    "Self-speculative decoding: accepted tokens a round and the speed-up over plain greedy "
    "decoding, by the length of a draft.",
    columns,
    drafts,
    by_horizon=True,
    keep=measured,
)
