"""How the loss fell, and how few directions the hidden states use: curves of any table."""

import re
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from nextlat_bench.report.columns import REFERENCES, Column, Layout
from nextlat_bench.report.exhibits import curve_records
from nextlat_bench.report.figures.scene import Drawing, Scene, ours
from nextlat_bench.report.figures.style import (
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

__all__ = ["spectra_of", "training_of"]

METRICS = {"relative": "singular value / largest", "share": "share of the k largest"}


def column(
    probe: str, metric: str, key: str, number: int, said: str, form: str, most: float = inf
) -> Column:
    return Column("", said, probe, metric, (f"{key}={number}",), form=form, most=most)


def numbered(records: Sequence[Record], probe: str, key: str) -> list[int]:
    """The numbers that a probe's conditions name."""
    pattern = re.compile(rf"{key}=(\d+)")
    mine = (pattern.fullmatch(r.condition) for r in records if r.probe == probe)
    return sorted({int(match[1]) for match in mine if match})


def number_of(column: Column) -> int:
    return int(column.conditions[0].partition("=")[2])


def steps(_: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    found = numbered(records, "training", "step")
    return tuple(
        column("training", "next_token", "step", n, f"Loss to step {n:,}", ".4f") for n in found
    )


def sizes(_: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    # not at the k of a reference, which is not drawn
    drawn = [r for r in records if r.objective not in REFERENCES]
    found = numbered(drawn, "spectrum", "largest")
    return tuple(
        column("spectrum", metric, "largest", k, f"{said.capitalize()}, k = {k}", ".3g", most=1.0)
        for metric, said in METRICS.items()
        for k in found
    )


def lines(panel: "Axes", scene: Scene, block: Block, metric: str, every: int) -> None:
    """The mean of each objective, a mark at every so many points, and its seeds as thin lines."""
    chosen = [(i, c) for i, c in enumerate(scene.layout.columns) if c.metric == metric]
    for row in block.rows:
        if row.drawn_as not in scene.objectives:
            continue
        cells = [(number_of(c), row.cells[i].value) for i, c in chosen]
        points = [(x, y) for x, y in cells if y is not None]
        looks = line_of(row.drawn_as, mean=row.source == "measured")
        if row.source == "measured":
            often = max(1, min(every, len(points) // 3))  # of a short curve every point
            first = scene.objectives.index(row.drawn_as) * often // len(scene.objectives)
            looks["markevery"] = (first, often)
        elif len(points) == 1:
            looks["marker"] = "."
        if points:
            panel.plot(*zip(*points, strict=True), **looks)


def training(scene: Scene) -> "Figure":
    """Two panels a row, one for each setting."""
    out, axes = canvas((len(scene.blocks) + 1) // 2, min(2, len(scene.blocks)), height=3.4)
    for panel, block in zip(axes, scene.blocks, strict=False):
        lines(panel, scene, block, "next_token", every=10)
        panel.set(yscale="log", xlabel="step")
        plain(panel)
        panel.set_title(block.heading.replace(", ", "\n", 1), loc="left")
    for panel in axes[:: min(2, len(scene.blocks))]:
        panel.set_ylabel("next-token loss, nats")
    for panel in axes[len(scene.blocks) :]:
        panel.remove()
    legend(out, means(scene.labels) | {"one seed": one_line(color=GREY, **THIN)})
    return out


def spectra(scene: Scene) -> "Figure":
    """Two panels a setting: the singular values, and the share of the largest."""
    out, axes = canvas(len(scene.blocks), 2, height=3.4)
    for i, block in enumerate(scene.blocks):
        for panel, (metric, said) in zip(axes[2 * i :], METRICS.items(), strict=False):
            lines(panel, scene, block, metric, every=1)
            known = sorted({number_of(c) for c in scene.layout.columns})
            panel.set_xscale("log", base=2)
            panel.set_xticks(known, map(str, known))
            panel.minorticks_off()
            panel.set(xlabel="k", ylabel=said)
        axes[2 * i].set_yscale("log")
        axes[2 * i + 1].set_ylim(0, 1.03)
        axes[2 * i].set_title(block.heading, loc="left")
    legend(out, means(scene.labels) | {"one seed": one_line(color=GREY, **THIN)})
    return out


def plain(panel: "Axes") -> None:
    """Numbers without powers on a logarithmic axis of few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = panel.get_ylim()
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 10 * low else (1.0, 3.0)
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.minorticks_off()


def measured(blocks: list[Block]) -> list[Block]:
    """Those of which something is to be seen."""
    cells = {id(b): [cell for row in b.rows for cell in row.cells] for b in blocks}
    return [b for b in ours(blocks) if any(cell.value is not None for cell in cells[id(b)])]


def training_of(table: str) -> Drawing:
    """The training curves of a table's runs."""
    return Drawing(
        table,
        "Next-token loss on training batches, by step: the part of the loss that all objectives "
        "share.",
        steps,
        training,
        keep=measured,
        more=curve_records,
    )


def spectra_of(table: str) -> Drawing:
    """The rank spectra of a table's runs."""
    return Drawing(
        table,
        "Singular values of the hidden states of held-out sequences: each beside the largest, and "
        "the share that the k largest have of the sum of all.",
        sizes,
        spectra,
        keep=measured,
    )
