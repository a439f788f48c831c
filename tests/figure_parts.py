"""What is to be seen in a figure: its points, bars, colours and legend."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.figures import figure
from nextlat_bench.report.figures.style import LOOKS
from nextlat_bench.report.records import Record


def drawn(name: str, records: list[Record], exhibits: Exhibits | None = None) -> Figure:
    made = figure(name, records, exhibits)[0]
    assert made is not None
    return made


def points(axes: Axes, **wanted: Any) -> set[tuple[float, float]]:
    """Of all lines that look so."""
    return {
        (float(x), round(float(y), 6))
        for line in axes.lines
        if all(getattr(line, f"get_{key}")() == value for key, value in wanted.items())
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def bars(axes: Axes) -> list[tuple[float, float, str, bool]]:
    """Centre, height, colour and whether it is hatched, from left to right."""
    found = []
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        hatched = bool(patch.get_hatch())
        colour = to_hex(patch.get_edgecolor() if hatched else patch.get_facecolor())
        centre = patch.get_x() + patch.get_width() / 2
        if not np.isnan(patch.get_height()):  # nothing to be seen
            found.append((centre, patch.get_height(), colour.lower(), hatched))
    return sorted(found)


def legend(made: Figure) -> list[str]:
    return [text.get_text() for text in made.legends[0].get_texts()]


def colour(objective: str) -> str:
    return LOOKS[objective][0].lower()
