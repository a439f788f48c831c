"""Figures as pure functions of records: every seed a mark, the paper's numbers beside ours.

They are drawn from the rows of the tables. Of several variants of one objective a figure shows the
one of most seeds, then of most steps; the table has them all. The same records give the same bytes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nextlat_bench.registry import check_name
from nextlat_bench.report.layouts import LAYOUTS, Column, Layout, label_of, names
from nextlat_bench.report.records import Record, distinct
from nextlat_bench.report.tables import Block, Row, Table, blocks_of, table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw", "figure", "numbers", "png"]

# Okabe and Ito's palette, which the colour-blind tell apart; shapes say it once more
LOOKS = {
    "gpt": ("#4d4d4d", "o"),
    "bst": ("#CC79A7", "v"),
    "mtp": ("#E69F00", "s"),
    "jtp": ("#009E73", "^"),
    "nextlat": ("#0072B2", "D"),
    "noisy_nextlat": ("#56B4E9", "d"),
    "gru": ("#D55E00", "P"),
}
OTHER = ("#000000", "X")
GREY = "#777777"
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
MEAN: dict[str, Any] = {"linewidth": 2.0, "markersize": 7.0}
CHANCE: dict[str, Any] = {"linestyle": ":", "color": "black", "linewidth": 1.3}
PAPER: dict[str, Any] = {"linestyle": (0, (5, 3)), "linewidth": 1.2, "alpha": 0.55}
READINGS: dict[str, Any] = {"recurrent": "-", "trunk": (0, (2.5, 1.2))}
# elements of A5 and of its controls
ORDERS = {"A5": 60, "S5": 120, "A4": 12, "S4": 24, "S3": 6, "Z60": 60, "A4xZ5": 60}


def figure(name: str, records: Iterable[Record]) -> "Figure | None":
    """The figure of a table. None: it has none, or nothing of it was measured."""
    layout = LAYOUTS[check_name("table", name, names())]
    mine = [r for r in distinct(records) if r.task == layout.task]
    make, probe, columns = FIGURES.get(name, (None, "", None))
    found = (r for r in mine if r.probe == probe and r.objective != "oracle")
    if make is None or columns is None or all(r.value is None for r in found):
        return None
    with _style():
        return make(replace(layout, columns=columns(layout, mine)), mine)


def numbers(name: str, records: Iterable[Record]) -> Table:
    """What the figure of this name is drawn from: the table's rows, in columns of its own."""
    layout, (_, _, columns) = LAYOUTS[name], FIGURES[name]
    mine = [r for r in records if r.task == layout.task]
    return table(name, mine, columns(layout, mine))


def png(drawn: "Figure") -> bytes:
    """As a picture, without the date and the versions that would change its bytes."""
    buffer = BytesIO()
    with _style():
        drawn.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def draw(name: str, records: Iterable[Record], path: str | Path) -> bool:
    """Writes the figure as a PNG, its folder made where it is missing. False: there is none."""
    drawn = figure(name, records)
    if drawn is None:
        return False
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(png(drawn))
    return True


@contextmanager
def _style() -> Iterator[None]:
    """This module's style, whatever the user's own settings of matplotlib are."""
    from matplotlib import style  # a second to import

    with style.context(["default", STYLE]):
        yield


# ---- one figure each


def path_star(layout: Layout, records: Sequence[Record]) -> "Figure":
    """Bars of the share of whole paths that are right, a group for each graph.

    Ours are greedy, the paper's sampled.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    blocks = blocks_of("path_star", layout, records)
    objectives = _objectives(layout, blocks)
    out, axes = _canvas(1, 1, height=4.2)
    for x, block in enumerate(blocks):
        chosen = {objective: _chosen(block, objective) for objective in objectives}
        sides = [bool(block.records), any(row.source == "paper" for row in block.rows)]
        wide = 0.84 / (len(objectives) * max(1, sum(sides)))
        for k, (objective, rows) in enumerate(chosen.items()):
            colour, _ = _look(objective)
            left = x - 0.42 + wide * (sum(sides) * k + 0.5)
            seeds = [row for row in rows if row.source.startswith("seed")]
            for row in rows:
                if row.source == "paper":
                    where = left + wide * sides[0]
                    axes[0].bar(where, _value(row, 1), 0.86 * wide, **_hollow(colour))
                elif row.source == "measured":
                    axes[0].bar(left, _value(row), 0.86 * wide, color=colour)
            for i, row in enumerate(seeds):  # side by side, since seeds often agree
                beside = (i - (len(seeds) - 1) / 2) / (len(seeds) + 2)
                axes[0].plot(left + beside * wide, _value(row), **SEED)
        if degree := block.facts.get("degree"):
            axes[0].plot([x - 0.44, x + 0.44], [100 / degree] * 2, **CHANCE)
    texts = [block.heading.partition(":")[0].replace(", ", "\n") for block in blocks]
    axes[0].set_xticks(range(len(blocks)), texts)
    axes[0].tick_params(axis="x", length=0)
    axes[0].set_xlim(-0.5, len(blocks) - 0.5)
    axes[0].set(ylabel="whole paths right, greedy %", ylim=(0, 103))
    legend: dict[str, Artist] = {label_of(o, ""): Patch(color=_look(o)[0]) for o in objectives}
    legend |= {"one seed": Line2D([], [], **SEED), "paper, sampled": Patch(**_hollow(GREY))}
    _legend(out, legend | {"chance": Line2D([], [], **CHANCE)})
    return out


def countdown(layout: Layout, records: Sequence[Record]) -> "Figure":
    """Held-out targets reached, by horizon; what has no horizon is a line across."""
    from matplotlib.lines import Line2D

    blocks = blocks_of("countdown", layout, records)
    objectives = _objectives(layout, blocks)
    out, axes = _canvas(len(blocks), 1, height=3.8)
    for panel, block in zip(axes, blocks, strict=True):
        given = {row.variant.get("horizon") for row in block.rows}
        horizons = sorted(h for h in given if isinstance(h, int))
        place = {None: -0.6} | {h: float(i) for i, h in enumerate(horizons)}
        beside = dict.fromkeys(place.values(), 0.05)  # of the mean, for the next seeds there
        for objective in objectives:
            colour, marker = _look(objective)
            chosen = [(x, row) for h, x in place.items() for row in _chosen(block, objective, h)]
            for source, style in (
                ("paper", PAPER | {"color": colour}),
                ("measured", MEAN | {"color": colour, "marker": marker}),
            ):
                means = [(x, _value(row)) for x, row in chosen if row.source == source]
                if means and means[0][0] == place[None]:
                    panel.axhline(means[0][1], **style | {"marker": ""})
                if means:
                    panel.plot(*zip(*means, strict=True), **style)
            for x, row in chosen:
                if row.source.startswith("seed"):
                    style = SEED | {"markeredgecolor": colour}
                    panel.plot(x + beside[x], _value(row), **style)
            for x in {x for x, row in chosen if row.source.startswith("seed")}:
                beside[x] += 0.03
        panel.set_xticks(range(len(horizons)), map(str, horizons))
        panel.set(xlim=(-0.8, len(horizons) - 0.6), ylim=(0, None))
        panel.set(xlabel="horizon", ylabel="held-out targets, %")
        panel.set_title(block.heading, loc="left")
    legend = _means(objectives)
    legend["one seed"] = Line2D([], [], **SEED)
    _legend(out, legend | {"paper, 4 inputs": Line2D([], [], color=GREY, **PAPER)})
    return out


def a5(layout: Layout, records: Sequence[Record]) -> "Figure":
    """Accuracy at each position: up to three training lengths, and far beyond."""
    from matplotlib.lines import Line2D

    places = _places(records)  # one a column
    blocks = [b for b in blocks_of("a5", layout, records) if b.records]
    objectives = _objectives(layout, blocks)
    far = any(length > 3 * block.facts["length"] for _, length in places for block in blocks)
    out, axes = _canvas(len(blocks), 1 + far, height=3.8)
    for i, block in enumerate(blocks):
        panels, taught = axes[(1 + far) * i :][: 1 + far], block.facts["length"]
        lengths: set[int] = set()
        style: dict[str, Any]
        for k, row in [(k, r) for k, o in enumerate(objectives) for r in _chosen(block, o)]:
            colour, marker = _look(row.objective)
            style = {"color": colour, "linewidth": 0.8, "alpha": 0.4}
            if row.source == "measured":  # marks where others' are not, for curves that agree
                style = MEAN | {"color": colour, "marker": marker}
                style |= {"markersize": 5, "markevery": (k, len(objectives))}
            for reading, dashes in READINGS.items():
                points = [
                    (length, cell.value)
                    for (its, length), cell in zip(places, row.cells, strict=True)
                    if its == reading and cell.value is not None
                ]
                lengths |= {length for length, _ in points}
                for panel in panels if points else []:
                    panel.plot(*zip(*points, strict=True), **style, linestyle=dashes)
        for panel in panels:
            panel.set_ylim(0, 103)
            if order := ORDERS.get(block.facts["group"]):
                panel.axhline(100 / order, **CHANCE)
        near, *beyond = panels
        near.axvline(taught, color=GREY, linewidth=1.0)
        ticks = [k * taught for k in (1, 2, 3)]
        near.set_xticks([1, *ticks], ["1", f"{taught}\ntraining length", *map(str, ticks[1:])])
        near.set(xlim=(1, 3 * taught), xlabel="position", ylabel="right products, %")
        near.set_title(block.heading, loc="left")
        for panel in beyond:
            far_ones = sorted(length for length in lengths if length >= 3 * taught)
            if far_ones[1:]:
                panel.set(xscale="log", xlim=(far_ones[0], far_ones[-1]))
                panel.set_xticks(far_ones, map(str, far_ones))
                panel.minorticks_off()
                panel.set_xlabel("position, log scale")
                panel.tick_params(labelleft=False)
            else:
                panel.remove()
    legend = _means(objectives)
    legend |= {r: Line2D([], [], color=GREY, linestyle=d) for r, d in READINGS.items()}
    legend["one seed"] = Line2D([], [], color=GREY, linewidth=0.8, alpha=0.6)
    _legend(out, legend | {"chance": Line2D([], [], **CHANCE)})
    return out


# ---- which columns they draw


def _only(*keys: str) -> "Columns":
    """Some of the table's."""
    return lambda layout, _: tuple(column for column in layout.columns if column.key in keys)


def _curves(_: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    """Accuracy at every length that was measured, under both readings."""
    return tuple(
        Column(
            *("", f"{reading}, position {length} %", "length_generalization", "accuracy"),
            (f"reading={reading},length={length}",),
        )
        for reading, length in _places(records)
    )


Make: TypeAlias = Callable[[Layout, Sequence[Record]], "Figure"]
Columns: TypeAlias = Callable[[Layout, Sequence[Record]], tuple[Column, ...]]
# what makes a table's figure, of which probe, from which columns
FIGURES: dict[str, tuple[Make, str, Columns]] = {
    "path_star": (path_star, "accuracy", _only("greedy", "sampled")),
    "countdown": (countdown, "accuracy", _only("accuracy")),
    "a5": (a5, "length_generalization", _curves),
}


# ---- which rows


def _places(records: Sequence[Record]) -> list[tuple[str, int]]:
    """The readings and lengths that were measured."""
    pattern = re.compile(r"reading=(\w+),length=(\d+)")
    found = {match.groups() for r in records if (match := pattern.fullmatch(r.condition))}
    return sorted((reading, int(length)) for reading, length in found)


def _value(row: Row, column: int = 0) -> float:
    """NaN, which is not drawn, where there is none."""
    value = row.cells[column].value
    return float("nan") if value is None else value


def _objectives(layout: Layout, blocks: Sequence[Block]) -> list[str]:
    """Those with a number, in the table's order; of the true world model nothing is to be seen."""
    rows = [row for block in blocks for row in block.rows]
    shown = {row.objective for row in rows if any(cell.value is not None for cell in row.cells)}
    order = dict.fromkeys(o for b in blocks for o in layout.shown(b.records) if o in shown)
    return [objective for objective in order if objective != "oracle"]


def _chosen(block: Block, objective: str, *horizon: int | None) -> list[Row]:
    """One objective's mean, seeds and paper's row, of one variant (at this horizon, if given)."""
    rows = [row for row in block.rows if row.objective == objective]
    rows = [row for row in rows if not horizon or row.variant.get("horizon") == horizon[0]]
    measured = [row for row in rows if row.source == "measured"]
    best = max(measured, key=lambda r: (r.num_seeds, r.variant.get("step", 0)), default=None)
    label = best.label if best else ""
    return [row for row in rows if row.source == "paper" or row.label == label]


# ---- how it looks


def _look(objective: str) -> tuple[str, str]:
    """Its colour and marker."""
    return LOOKS.get(objective, OTHER)


def _hollow(colour: str) -> dict[str, Any]:
    return {"facecolor": "white", "edgecolor": colour, "hatch": "////", "linewidth": 1.0}


def _canvas(num_rows: int, num_columns: int, height: float) -> tuple["Figure", list["Axes"]]:
    """A figure and its panels, row by row; the last column is the narrower."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = Figure(figsize=(WIDTH, height * num_rows + 0.6), layout="constrained")
    FigureCanvasAgg(out)
    ratios = [2.0] * (num_columns - 1) + [1.0]
    panels = out.subplots(num_rows, num_columns, squeeze=False, width_ratios=ratios)
    return out, list(panels.ravel())


def _means(objectives: Sequence[str]) -> "dict[str, Artist]":
    """Their lines, for a legend."""
    from matplotlib.lines import Line2D

    looks = {label_of(objective, ""): _look(objective) for objective in objectives}
    return {who: Line2D([], [], **MEAN, color=c, marker=m) for who, (c, m) in looks.items()}


def _legend(drawn: "Figure", entries: "dict[str, Artist]") -> None:
    columns = min(len(entries), 5)
    drawn.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
