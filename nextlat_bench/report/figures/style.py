"""How every figure looks: colours, marks, sizes, panels and legends, whatever the user's settings.

The same figure gives the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CHANCE", "FALSE", "GREY", "LOOKS", "MEAN", "PAPER", "SEED", "THIN", "UNUSED"]
__all__ += ["canvas", "dashes_of", "hollow", "legend", "line_of", "look", "means", "one_line"]
__all__ += ["style"]

# Okabe and Ito's palette, which the colour-blind tell apart; shapes say it once more
LOOKS = {
    "gpt": ("#4d4d4d", "o"),
    "bst": ("#CC79A7", "v"),
    "mtp": ("#E69F00", "s"),
    "jtp": ("#009E73", "^"),
    "nextlat": ("#0072B2", "D"),
    "noisy_nextlat": ("#56B4E9", "d"),
    "stationary_nextlat": ("#9669ff", "p"),
    "closed_nextlat": ("#60b460", "h"),
    "gru": ("#D55E00", "P"),
}
# of people's own, in the order of their names; as far from those as can be
OTHERS = (("#000000", "X"), ("#603000", "<"), ("#0000f0", ">"), ("#000048", "8"), ("#0030a8", "*"))
GREY = "#777777"
FALSE, UNUSED = "#e0201b", "#cfcfcf"  # streets that are made up, and those not driven on
WIDTH = 9.0  # inches: its text can be read at the width of a README
STYLE: dict[str, Any] = {
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
SEED: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 4.5,
    "zorder": 3,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 0.8,
}
THIN: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.4}  # a seed that is a line
MEAN: dict[str, Any] = {"linewidth": 2.0, "markersize": 7.0}
CHANCE: dict[str, Any] = {"linestyle": ":", "color": "black", "linewidth": 1.3}
# by horizon; chance alone is dotted
DASHES: tuple[Any, ...] = ("-", (0, (2.5, 1.2)), (0, (6, 2, 1, 2)), (0, (6, 2, 1, 2, 1, 2)))
PAPER: dict[str, Any] = {"linestyle": (0, (5, 3)), "linewidth": 1.2, "alpha": 0.55}


_own: dict[str, tuple[str, str]] = {}  # while a figure is drawn: the looks of people's own


@contextmanager
def style(objectives: Sequence[str] = ()) -> Iterator[None]:
    """This module's style, whatever the user's own settings of matplotlib are; people's own
    objectives, as far as there are looks, are told apart."""
    from matplotlib import style  # a second to import

    _own.update(zip(sorted(set(objectives) - set(LOOKS)), OTHERS, strict=False))
    try:
        with style.context(["default", STYLE]):
            yield
    finally:
        _own.clear()


def look(objective: str) -> tuple[str, str]:
    """Its colour and marker."""
    return LOOKS.get(objective) or _own.get(objective, OTHERS[-1])


def line_of(objective: str, *, mean: bool = True) -> dict[str, Any]:
    """Of a mean, with marks, or of a seed, thin."""
    colour, marker = look(objective)
    if mean:
        return MEAN | {"color": colour, "marker": marker, "markersize": 5}
    return THIN | {"color": colour}


def dashes_of(horizons: Iterable[int]) -> dict[int, Any]:
    """A line's for each horizon, in their order."""
    return dict(zip(sorted(set(horizons)), cycle(DASHES), strict=False))


def hollow(colour: str) -> dict[str, Any]:
    """A bar of the paper's."""
    return {"facecolor": "white", "edgecolor": colour, "hatch": "////", "linewidth": 1.0}


def canvas(
    num_rows: int, num_columns: int, height: float, ratios: Sequence[float] | None = None
) -> tuple["Figure", list["Axes"]]:
    """A figure and its panels, row by row. `height`: of a row, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = Figure(figsize=(WIDTH, height * num_rows + 0.6), layout="constrained")
    FigureCanvasAgg(out)
    panels = out.subplots(num_rows, num_columns, squeeze=False, width_ratios=ratios)
    return out, list(panels.ravel())


def means(labels: Mapping[str, str]) -> "dict[str, Artist]":
    """The lines of these objectives, for a legend."""
    from matplotlib.lines import Line2D

    looks = {label: look(objective) for objective, label in labels.items()}
    return {who: Line2D([], [], **MEAN, color=c, marker=m) for who, (c, m) in looks.items()}


def one_line(**looks: Any) -> "Artist":
    """A line of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **looks)


def legend(drawn: "Figure", entries: "dict[str, Artist]") -> None:
    """Below the panels, in as few rows of like length as the width allows."""
    texts = list(entries)
    for num_rows in range(-(-len(texts) // 5), len(texts) + 1):
        columns = [texts[i : i + num_rows] for i in range(0, len(texts), num_rows)]
        if sum(0.72 + 0.08 * max(map(len, its)) for its in columns) <= WIDTH:  # inches
            break
    handles, num_columns = list(entries.values()), len(columns)
    drawn.legend(handles, texts, loc="outside lower center", ncols=num_columns)
