"""Path-Star: which graphs are solved, and by how few training graphs."""

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from nextlat_bench.report.facts import number
from nextlat_bench.report.figures.scene import Drawing, Scene, only, seeds_beside, value
from nextlat_bench.report.figures.style import (
    CHANCE,
    GREY,
    MEAN,
    SEED,
    canvas,
    hollow,
    legend,
    look,
    means,
    one_line,
)
from nextlat_bench.report.tables import Block

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["DATA", "GRAPHS"]


def by_graph(blocks: list[Block]) -> dict[str, list[Block]]:
    """Blocks that differ in the number of training graphs alone, the fewest first."""
    found = defaultdict(list)
    for block in blocks:
        graph = {key: fact for key, fact in block.facts.items() if key != "num_train"}
        if block.records:
            found[json.dumps(graph, sort_keys=True)].append(block)
    for its in found.values():
        its.sort(key=lambda block: number(block.facts, "num_train") or float("inf"))
    return found


def most_graphs(blocks: list[Block]) -> list[Block]:
    """Of each graph that was trained on several numbers of examples, the most alone."""
    kept = [its[-1] for its in by_graph(blocks).values()]
    return [block for block in blocks if block in kept or not block.records]


def several_sizes(blocks: list[Block]) -> list[Block]:
    return [block for its in by_graph(blocks).values() if len(its) > 1 for block in its]


def graphs(scene: Scene) -> "Figure":
    """Bars of the share of whole paths that are right, a group for each graph.

    Ours are greedy, the paper's sampled.
    """
    from matplotlib.patches import Patch

    blocks, objectives = scene.blocks, scene.objectives
    out, axes = canvas(1, 1, height=4.2)
    for x, block in enumerate(blocks):
        sides = [bool(block.records), any(row.source == "paper" for row in block.rows)]
        wide = 0.84 / (len(objectives) * max(1, sum(sides)))
        for k, objective in enumerate(objectives):
            rows = [row for row in block.rows if row.drawn_as == objective]
            colour, _ = look(objective)
            left = x - 0.42 + wide * (sum(sides) * k + 0.5)
            for row in rows:
                if row.source == "paper":
                    where = left + wide * sides[0]
                    axes[0].bar(where, value(row, 1), 0.86 * wide, **hollow(colour))
                elif row.source == "measured":
                    axes[0].bar(left, value(row), 0.86 * wide, color=colour)
            for beside, row in seeds_beside(rows):
                axes[0].plot(left + beside * wide, value(row), **SEED)
        if degree := number(block.facts, "degree"):
            axes[0].plot([x - 0.44, x + 0.44], [100 / degree] * 2, **CHANCE)
    texts = [block.heading.partition(":")[0].replace(", ", "\n") for block in blocks]
    axes[0].set_xticks(range(len(blocks)), texts)
    axes[0].tick_params(axis="x", length=0)
    axes[0].set_xlim(-0.5, len(blocks) - 0.5)
    axes[0].set(ylabel="whole paths right, % (ours greedy)", ylim=(0, 103))
    entries: dict[str, Artist] = {scene.labels[o]: Patch(color=look(o)[0]) for o in objectives}
    entries |= {"one seed": one_line(**SEED), "paper, sampled": Patch(**hollow(GREY))}
    legend(out, entries | {"chance": one_line(**CHANCE)})
    return out


GRAPHS = Drawing(
    "path_star",
    "Path-Star: the share of whole paths that are right, by graph and objective; ours decoded "
    "greedily, the paper's, hatched, sampled.",
    only("greedy", "sampled"),
    graphs,
    keep=most_graphs,
)


def data(scene: Scene) -> "Figure":
    """A panel a graph; what was never repeated stands to the right of all numbers."""
    graphs, objectives = by_graph(scene.blocks), scene.objectives
    out, axes = canvas(len(graphs), 1, height=3.6)
    for panel, blocks in zip(axes, graphs.values(), strict=True):
        for k, objective in enumerate(objectives):
            colour, marker = look(objective)
            found = [[r for r in b.rows if r.drawn_as == objective] for b in blocks]
            means_of = [[r for r in rows if r.source == "measured"] for rows in found]
            aside = 0.07 * (k - (len(objectives) - 1) / 2)  # an objective beside another
            line = [(x + aside, value(rows[0])) for x, rows in enumerate(means_of) if rows]
            panel.plot(*zip(*line, strict=True), **MEAN, color=colour, marker=marker)
            for x, rows in enumerate(found):
                for beside, row in seeds_beside(rows):
                    looks = SEED | {"markeredgecolor": colour}
                    panel.plot(x + aside + 0.05 * beside, value(row), **looks)
        if degree := number(blocks[0].facts, "degree"):
            panel.axhline(100 / degree, **CHANCE)
        sizes = [number(block.facts, "num_train") for block in blocks]
        panel.set_xticks(range(len(sizes)), [f"{n:,}" if n else "never repeated" for n in sizes])
        panel.set(xlabel="training graphs", ylabel="whole paths right, %", ylim=(0, 103))
        panel.set_xlim(-0.3, len(sizes) - 0.7)
        heading = blocks[-1].heading  # without a number, where one trained on ever new graphs
        if sizes[-1]:
            heading = heading.replace(f", {sizes[-1]:,} graphs", "")
        panel.set_title(heading, loc="left")
    entries = means(scene.labels) | {"one seed": one_line(**SEED), "chance": one_line(**CHANCE)}
    legend(out, entries)
    return out


DATA = Drawing(
    "path_star",
    "Path-Star: the share of whole paths that are right, by the number of training graphs, in as "
    "many steps.",
    only("greedy"),
    data,
    keep=several_sizes,
)
