"""The street maps that generated traversals imply, objective beside objective."""

from collections.abc import Sequence
from math import cos, radians
from statistics import median
from typing import TYPE_CHECKING, Any

from nextlat_bench.report.columns import Column, Layout
from nextlat_bench.report.exhibits import StreetSketch
from nextlat_bench.report.figures.scene import Drawing, Scene, ours, value
from nextlat_bench.report.figures.style import FALSE, UNUSED, WIDTH, canvas, legend, one_line
from nextlat_bench.report.records import Record, variants_of
from nextlat_bench.report.tables import Block

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CREDIT", "MAPS", "entries", "sketch"]

CREDIT = "© OpenStreetMap contributors"
COLUMNS = (
    ("False edges %", "false_edge_share", ".1f"),
    ("False edges", "false_edges", ".0f"),
    ("True edges", "true_edges", ".0f"),
)


def sketch(axes: "Axes", found: StreetSketch, inches: float = 7.0) -> None:
    """In a panel so wide: streets driven on black, false edges red and wider, the others grey.

    A false edge along a true street, driven the wrong way, shows as a red border of the black.
    """
    from matplotlib.collections import LineCollection

    thick = min(max(20 / len(found.nodes) ** 0.5, 0.5), 1.6) * max(inches / 7, 0.5)  # points
    for edges, looks in (
        (found.streets, LINES["streets not driven on"]),
        (found.false_edges, LINES["false edges"]),
        (found.true_edges, LINES["true edges"]),
    ):
        places = [[found.nodes[a], found.nodes[b]] for a, b in edges]
        width = thick * looks["linewidth"]
        lines = LineCollection(places, colors=looks["color"], linewidths=width, capstyle="round")
        axes.add_collection(lines)
    axes.autoscale_view()
    axes.set_aspect(1 / cos(radians(median(latitude for _, latitude in found.nodes))))
    axes.set_axis_off()


LINES: dict[str, dict[str, Any]] = {
    "true edges": {"color": "black", "linewidth": 1.0},
    "false edges": {"color": FALSE, "linewidth": 2.2},
    "streets not driven on": {"color": UNUSED, "linewidth": 0.6},
}


def entries(counts: StreetSketch | None = None) -> "dict[str, Artist]":
    """Of a legend; with the numbers of edges, where it is of one map."""
    known = (
        {}
        if counts is None
        else {"true edges": counts.true_edges} | {"false edges": counts.false_edges}
    )
    return {
        said + (f" ({len(known[said]):,})" if said in known else ""): one_line(
            color=looks["color"], linewidth=1.6 * looks["linewidth"]
        )
        for said, looks in LINES.items()
    }


def columns(_: Layout, __: Sequence[Record]) -> tuple[Column, ...]:
    return tuple(
        Column("", heading, "map_reconstruction", metric, form=form)
        for heading, metric, form in COLUMNS
    )


def shown(scene: Scene, block: Block) -> list[tuple[str, StreetSketch]]:
    """Of each objective the first seed that has a map, with what is said above it."""
    found = []
    for objective in scene.objectives:
        rows = [r for r in block.rows if r.drawn_as == objective and r.source != "paper"]
        mine = [r for r in block.records if rows and r.objective == rows[0].objective]
        runs = {
            r.seed: r.run
            for facts, group in variants_of(mine)
            if facts == rows[0].variant
            for r in group
        }
        seed = next((s for s in sorted(runs) if runs[s] in scene.exhibits.maps), None)
        if seed is None:
            continue
        seeds = [row for row in rows if row.source.startswith("seed")]
        shares = [f"{value(row):.1f}" for row in seeds if row.cells[0].value is not None]
        said = f"{rows[0].label}, seed {seed}"
        all_of = f"false, by seed: {', '.join(shares)} %"
        found.append((f"{said}\n{all_of}", scene.exhibits.maps[runs[seed]]))
    return found


def maps(scene: Scene) -> "Figure | None":
    """Three maps a row, or two; none where no run of these has one."""
    pictures = [(b, shown(scene, b)) for b in scene.blocks]
    pictures = [(block, its) for block, its in pictures if its]
    if not pictures:
        return None
    most = max(len(its) for _, its in pictures)
    wide = 2 if most in (1, 2, 4) else 3
    num_rows = sum(-(-len(its) // wide) for _, its in pictures)
    out, axes = canvas(num_rows, wide, height=WIDTH / wide)
    panels = iter(axes)
    for block, its in pictures:
        for i in range(-(-len(its) // wide) * wide):
            panel = next(panels)
            if i >= len(its):
                panel.remove()
                continue
            said, found = its[i]
            sketch(panel, found, WIDTH / wide)
            heading = f"{block.heading}\n" if i == 0 and len(pictures) > 1 else ""
            panel.set_title(heading + said, loc="left", fontsize=10)
    out.text(0.995, 0.005, CREDIT, ha="right", va="bottom", fontsize=8, color="#555555")
    legend(out, entries())
    return out


MAPS = Drawing(
    "taxi",
    "Taxi: the street maps that the routes of one seed imply, objective beside objective: true "
    "edges black, false ones red, streets not driven on grey; black with a red border is a street "
    "that was also driven the wrong way. In numbers: the means of all seeds.",
    columns,
    maps,
    keep=ours,
)
