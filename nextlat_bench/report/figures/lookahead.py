"""Language: how much of the tokens to come can be read off the hidden states."""

from typing import TYPE_CHECKING

from nextlat_bench.report.columns import Column, Layout
from nextlat_bench.report.figures.scene import Drawing, Scene, ours, value
from nextlat_bench.report.figures.style import (
    CHANCE,
    GREY,
    THIN,
    canvas,
    dashes_of,
    legend,
    line_of,
    means,
    one_line,
)
from nextlat_bench.report.layouts import ahead
from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

__all__ = ["GAINS"]

DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
NATS = (0.03, 0.1, 0.3, 1)
READINGS = ("hidden", "embedding", "frequency")


def columns(_: Layout, records: "Sequence[Record]") -> tuple[Column, ...]:
    """Each reading at each distance."""
    return tuple(ahead(reading, k) for reading in READINGS for k in DISTANCES)


def gains(row: Row, reading: str) -> list[tuple[int, float]]:
    """(distance, nats less than by the frequencies alone), where both were measured."""
    count = len(DISTANCES)
    at, frequency = READINGS.index(reading) * count, READINGS.index("frequency") * count
    found = [(k, value(row, frequency + i) - value(row, at + i)) for i, k in enumerate(DISTANCES)]
    return [(k, gain) for k, gain in found if gain > 0]  # neither nan nor off the logarithm


def picture(scene: Scene) -> "Figure":
    """Nats gained over the tokens' frequencies, by distance, both logarithmic."""
    out, axes = canvas(len(scene.blocks), 1, height=4.4)
    dashes = dashes_of(d for row in scene.rows if (d := row.variant.get("horizon")))
    for panel, block in zip(axes, scene.blocks, strict=True):
        least = 1.0
        for row in block.rows:
            looks = line_of(row.drawn_as, mean=row.source == "measured")
            looks["linestyle"] = dashes.get(row.variant.get("horizon", 0), "-")
            if row.source == "measured" and (plain := gains(row, "embedding")):
                panel.plot(*zip(*plain, strict=True), **CHANCE)
            if points := gains(row, "hidden"):
                panel.plot(*zip(*points, strict=True), **looks)
                least = min(least, *(gain for _, gain in points))
        panel.set(xscale="log", yscale="log", xlim=(0.95, DISTANCES[-1] * 1.05))
        panel.set(ylim=(0.8 * least, None))
        panel.set_xticks(DISTANCES, map(str, DISTANCES))
        panel.set_yticks(NATS, map(str, NATS))
        panel.set(xlabel="tokens ahead", ylabel="nats gained over frequencies")
        panel.minorticks_off()
        panel.set_title(block.heading, loc="left")
    entries = means(scene.labels)
    entries |= {f"d = {d}": one_line(color=GREY, linestyle=its) for d, its in dashes.items()}
    entries["one seed"] = one_line(color=GREY, **THIN)
    legend(out, entries | {"the current token alone": one_line(**CHANCE)})
    return out


GAINS = Drawing(
    "lookahead",
    "Language: what a linear probe of the hidden states knows of the tokens to come, over the "
    "tokens' frequencies alone; what the current token alone tells is dotted. Drawn is the loss by "
    "the frequencies less that by each reading; in numbers it is these losses, in nats.",
    columns,
    picture,
    by_horizon=True,
    keep=ours,
)
