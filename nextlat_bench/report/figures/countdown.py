"""Countdown: how many targets are reached, by how far ahead was looked in training."""

from typing import TYPE_CHECKING

from nextlat_bench.report.facts import number
from nextlat_bench.report.figures.scene import Drawing, Scene, only, value
from nextlat_bench.report.figures.style import (
    GREY,
    MEAN,
    PAPER,
    SEED,
    canvas,
    legend,
    look,
    means,
    one_line,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HORIZONS"]

RELEASED = 1  # the paper's numbers are of its own checker


def horizons(scene: Scene) -> "Figure":
    """Held-out targets reached, by horizon; what has no horizon is a line across."""
    blocks, objectives = scene.blocks, scene.objectives
    out, axes = canvas(len(blocks), 1, height=3.8)
    for panel, block in zip(axes, blocks, strict=True):
        given = {number(row.variant, "horizon") for row in block.rows}
        known = sorted(h for h in given if h is not None)
        place = {None: -0.6} | {h: float(i) for i, h in enumerate(known)}
        beside = dict.fromkeys(place.values(), 0.05)  # of the mean, for the next seeds there
        for objective in objectives:
            colour, marker = look(objective)
            rows = [row for row in block.rows if row.drawn_as == objective]
            points = [
                (x, r) for h, x in place.items() for r in rows if number(r.variant, "horizon") == h
            ]
            for source, column, looks in (
                ("paper", RELEASED, PAPER | {"markerfacecolor": "none"}),
                ("measured", 0, MEAN),
            ):
                looks = looks | {"color": colour, "marker": marker}
                line = [(x, value(row, column)) for x, row in points if row.source == source]
                if line and line[0][0] == place[None]:
                    panel.axhline(line[0][1], **looks | {"marker": ""})
                if line:
                    panel.plot(*zip(*line, strict=True), **looks)
            seeds = [(x, row) for x, row in points if row.source.startswith("seed")]
            for x, row in seeds:
                panel.plot(x + beside[x], value(row), **SEED | {"markeredgecolor": colour})
            for x in {x for x, _ in seeds}:
                beside[x] += 0.03
        ticks = {place[h]: str(h or "none") for h in (None, *known) if h in given}
        panel.set_xticks([*ticks], [*ticks.values()])
        panel.set(xlim=(-0.8, len(known) - 0.6), ylim=(0, None))
        panel.set(xlabel="horizon", ylabel="held-out targets, %")
        panel.set_title(block.heading, loc="left")
    entries = means(scene.labels)
    entries["one seed"] = one_line(**SEED)
    legend(out, entries | {"paper, 4 inputs, its checker": one_line(color=GREY, **PAPER)})
    return out


HORIZONS = Drawing(
    "countdown",
    "Countdown: held-out targets reached, by horizon; an objective without one is a line across.",
    only("accuracy", "released"),
    horizons,
    by_horizon=True,
)
