"""A5: how far beyond the length that was taught the running product stays right."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nextlat_bench.report.columns import Column, Layout
from nextlat_bench.report.facts import number
from nextlat_bench.report.figures.scene import Drawing, Scene, ours
from nextlat_bench.report.figures.style import (
    CHANCE,
    GREY,
    THIN,
    canvas,
    legend,
    line_of,
    means,
    one_line,
)
from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import Block

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LENGTHS"]

PLACE = re.compile(r"reading=(\w+),length=(\d+)")
READINGS: dict[str, Any] = {"recurrent": "-", "trunk": (0, (2.5, 1.2)), "unclocked": (0, (1, 1))}
# elements of A5 and of its controls
ORDERS = {"A5": 60, "S5": 120, "A4": 12, "S4": 24, "S3": 6, "Z60": 60, "A4xZ5": 60}


def at_each_length(layout: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    """A column for each reading and length that was measured."""
    found = {
        (match[1], int(match[2]), r.probe)
        for r in records
        if (match := PLACE.fullmatch(r.condition))
    }
    return tuple(
        Column(
            *("", f"{reading}, position {length} %", probe, "accuracy"),
            (f"reading={reading},length={length}",),
        )
        for reading, length, probe in sorted(found)
    )


def place(column: Column) -> tuple[str, int]:
    """Its reading and length."""
    match = PLACE.fullmatch(column.conditions[0])
    assert match
    return match[1], int(match[2])


def lengths(scene: Scene) -> "Figure":
    """Accuracy at each position: up to three training lengths, and far beyond."""
    blocks, measured = scene.blocks, [place(column)[1] for column in scene.layout.columns]
    lengths_taught = [number(block.facts, "length") or 1 for block in blocks]
    far = any(length > 3 * taught for length in measured for taught in lengths_taught)
    out, axes = canvas(len(blocks), 1 + far, 3.8, (2.0, 1.0) if far else None)
    for i, (block, taught) in enumerate(zip(blocks, lengths_taught, strict=True)):
        panels = axes[(1 + far) * i :][: 1 + far]
        known = lines(panels, scene, block)
        for panel in panels:
            panel.set_ylim(0, 103)
            if order := ORDERS.get(str(block.facts.get("group"))):
                panel.axhline(100 / order, **CHANCE)
        near, *beyond = panels
        near.axvline(taught, color=GREY, linewidth=1.0)
        ticks = [k * taught for k in (1, 2, 3)]
        near.set_xticks([1, *ticks], ["1", f"{taught}\ntraining length", *map(str, ticks[1:])])
        near.set(xlim=(1, 3 * taught), xlabel="position", ylabel="right products, %")
        near.set_title(block.heading, loc="left")
        for panel in beyond:
            far_ones = sorted(length for length in known if length >= 3 * taught)
            if far_ones[1:]:
                panel.set(xscale="log", xlim=(far_ones[0], far_ones[-1]))
                panel.set_xticks(far_ones, map(str, far_ones))
                panel.minorticks_off()
                panel.set_xlabel("position, log scale")
                panel.tick_params(labelleft=False)
            else:
                panel.remove()
    entries = means(scene.labels)
    shown = {place(column)[0] for column in scene.layout.columns}
    entries |= {r: one_line(color=GREY, linestyle=READINGS[r]) for r in READINGS if r in shown}
    entries["one seed"] = one_line(color=GREY, **THIN)
    legend(out, entries | {"chance": one_line(**CHANCE)})
    return out


def lines(panels: "Sequence[Axes]", scene: Scene, block: Block) -> set[int]:
    """Each reading of our models and of their seeds, in all panels; the lengths that it has."""
    objectives, places = scene.objectives, [place(column) for column in scene.layout.columns]
    known: set[int] = set()
    for row in block.rows:
        if row.source == "paper" or row.drawn_as not in objectives:
            continue
        looks = line_of(row.drawn_as, mean=row.source == "measured")
        if row.source == "measured":  # marks where others' are not, for curves that agree
            looks["markevery"] = (objectives.index(row.drawn_as), len(objectives))
        for reading, dashes in READINGS.items():
            points = [
                (length, cell.value)
                for (its, length), cell in zip(places, row.cells, strict=True)
                if its == reading and cell.value is not None
            ]
            known |= {length for length, _ in points}
            for panel in panels if points else []:
                panel.plot(*zip(*points, strict=True), **looks, linestyle=dashes)
    return known


LENGTHS = Drawing(
    "a5",
    "A5: the share of running products that are right at each position, up to the training length "
    "and beyond it, under each reading.",
    at_each_length,
    lengths,
    keep=ours,
)
