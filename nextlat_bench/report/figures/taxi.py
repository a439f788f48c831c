"""Taxi: Table 1 as bars, and what is left of validity where the way is changed."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nextlat_bench.report.columns import Column, Layout
from nextlat_bench.report.figures.scene import Drawing, Scene, ours, seeds_beside, value
from nextlat_bench.report.figures.style import (
    GREY,
    SEED,
    canvas,
    hollow,
    legend,
    line_of,
    look,
    means,
    one_line,
)
from nextlat_bench.report.layouts import distinction
from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import Block

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BARS"]

DETOUR = re.compile(r"p=([\d.]+),replace=random")
# of each panel of bars, and of those of detours
BARRED = ["Valid, legal %", "Valid, reached %", "Compression", "Latent rank"]
BARRED += ["Distinction, exact precision", "Distinction, recall"]
DETOURS = ("legal", "reached")


def columns(layout: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    """The table's, distinction, and detours at every p that was measured."""
    asked = *layout.columns, *(distinction(metric) for metric in ("exact_precision", "recall"))
    known = {column.heading: column for column in asked}
    found = {match[1] for r in records if (match := DETOUR.fullmatch(r.condition))}
    return *(known[heading] for heading in BARRED), *(
        Column(
            f"detour_{metric}" if p == "0.75" else "",  # the paper's
            *(f"Detours {p}, {metric} %", "detours", metric),
            (f"p={p},replace=random",),
        )
        for metric in DETOURS
        for p in sorted(found, key=float)
    )


def bars(scene: Scene) -> "Figure":
    """Eight panels for each map."""
    from matplotlib.patches import Patch

    headings, objectives = [c.heading for c in scene.layout.columns], scene.objectives
    out, axes = canvas(2 * len(scene.blocks), 4, height=2.6)
    for i, block in enumerate(scene.blocks):
        first, second = axes[8 * i : 8 * i + 4], axes[8 * i + 4 : 8 * i + 8]
        for panel, heading in zip([*first, *second[:2]], BARRED, strict=True):
            barred(panel, block, objectives, headings.index(heading))
            room = "\n" if panel is first[0] else ""  # for the block's heading
            panel.set_title(room + heading, loc="left", fontsize=10)
            unit = heading != "Latent rank" and not heading.endswith("%")
            panel.set_ylim(0, 1.03 if unit else 103 if heading.endswith("%") else None)
        for panel, metric in zip(second[2:], DETOURS, strict=True):
            detoured(panel, block, objectives, headings, metric)
            panel.set_title(f"Detours, {metric} %", loc="left", fontsize=10)
        first[0].annotate(  # a title, if it is long, widens its panel
            block.heading,
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 18),
            textcoords="offset points",
            fontsize=10,
        ).set_in_layout(False)
    entries: dict[str, Artist] = dict(means(scene.labels))
    entries |= {"one seed": one_line(**SEED), "paper, Manhattan": Patch(**hollow(GREY))}
    entries["paper, detours"] = one_line(color="none", marker="D", markeredgecolor=GREY)
    legend(out, entries)
    return out


def barred(panel: "Axes", block: Block, objectives: Sequence[str], column: int) -> None:
    """One column: a bar for each objective, the paper's beside it."""
    both = any(r.source == "paper" and r.cells[column].value is not None for r in block.rows)
    wide = 0.84 / (1 + both)
    for x, objective in enumerate(objectives):
        colour, _ = look(objective)
        rows = [row for row in block.rows if row.drawn_as == objective]
        left = x - wide / 2 * both
        for row in rows:
            if row.source == "paper":
                panel.bar(left + wide, value(row, column), 0.86 * wide, **hollow(colour))
            elif row.source == "measured":
                panel.bar(left, value(row, column), 0.86 * wide, color=colour)
        for beside, row in seeds_beside(rows):
            panel.plot(left + beside * wide, value(row, column), **SEED)
    panel.set_xticks([])
    panel.set_xlim(-0.6, len(objectives) - 0.4)
    said_where_empty(panel, block, [column])


def detoured(
    panel: "Axes", block: Block, objectives: Sequence[str], headings: Sequence[str], metric: str
) -> None:
    """Lines by the share of steps that are replaced."""
    pattern = re.compile(rf"Detours ([\d.]+), {metric} %")
    found = [(i, match[1]) for i, text in enumerate(headings) if (match := pattern.match(text))]
    for k, objective in enumerate(objectives):
        colour, marker = look(objective)
        rows = [row for row in block.rows if row.drawn_as == objective]
        for row in rows:
            points = [(x, value(row, i)) for x, (i, _) in enumerate(found)]
            looks = line_of(objective)
            if row.source == "paper":
                looks = {"marker": marker, "color": "none", "markeredgecolor": colour}
            elif row.source != "measured":
                continue
            panel.plot(*zip(*points, strict=True), **looks)
        for beside, row in seeds_beside(rows):
            for x, (i, _) in enumerate(found):
                looks = SEED | {"markeredgecolor": colour, "markersize": 3.5}
                panel.plot(x + 0.2 + 0.05 * k + 0.2 * beside, value(row, i), **looks)
    panel.set_xticks(range(len(found)), [p.removeprefix("0") or "0" for _, p in found])
    panel.set(ylim=(0, 103), xlim=(-0.3, len(found) - 0.4))
    panel.set_xlabel("share of steps replaced", fontsize=10)
    said_where_empty(panel, block, [i for i, _ in found])


def said_where_empty(panel: "Axes", block: Block, columns: Sequence[int]) -> None:
    if all(row.cells[i].value is None for row in block.rows for i in columns):
        where = dict.fromkeys(("horizontalalignment", "verticalalignment"), "center")
        said = panel.text(0.5, 0.5, "not measured", where, transform=panel.transAxes)
        said.set(color=GREY, fontsize=9)
        panel.set_yticks([])


BARS = Drawing(
    "taxi",
    "Taxi: Table 1 as bars, detours by the share of steps replaced; the paper's numbers are "
    "hatched, or hollow marks.",
    columns,
    bars,
    keep=ours,
)
