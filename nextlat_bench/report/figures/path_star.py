"""Path-Star: which graphs are solved, and by how few training graphs."""

from typing import TYPE_CHECKING

from nextlat_bench.report.figures.scene import Drawing, Scene, only, value
from nextlat_bench.report.figures.style import (
    CHANCE,
    GREY,
    SEED,
    canvas,
    hollow,
    legend,
    look,
    one_line,
)
from nextlat_bench.report.layouts import label_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["GRAPHS"]


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
            rows = [row for row in block.rows if row.objective == objective]
            colour, _ = look(objective)
            left = x - 0.42 + wide * (sum(sides) * k + 0.5)
            seeds = [row for row in rows if row.source.startswith("seed")]
            for row in rows:
                if row.source == "paper":
                    where = left + wide * sides[0]
                    axes[0].bar(where, value(row, 1), 0.86 * wide, **hollow(colour))
                elif row.source == "measured":
                    axes[0].bar(left, value(row), 0.86 * wide, color=colour)
            for i, row in enumerate(seeds):  # side by side, since seeds often agree
                beside = (i - (len(seeds) - 1) / 2) / (len(seeds) + 2)
                axes[0].plot(left + beside * wide, value(row), **SEED)
        if degree := block.facts.get("degree"):
            axes[0].plot([x - 0.44, x + 0.44], [100 / degree] * 2, **CHANCE)
    texts = [block.heading.partition(":")[0].replace(", ", "\n") for block in blocks]
    axes[0].set_xticks(range(len(blocks)), texts)
    axes[0].tick_params(axis="x", length=0)
    axes[0].set_xlim(-0.5, len(blocks) - 0.5)
    axes[0].set(ylabel="whole paths right, greedy %", ylim=(0, 103))
    entries: dict[str, Artist] = {label_of(o, ""): Patch(color=look(o)[0]) for o in objectives}
    entries |= {"one seed": one_line(**SEED), "paper, sampled": Patch(**hollow(GREY))}
    legend(out, entries | {"chance": one_line(**CHANCE)})
    return out


GRAPHS = Drawing(
    "path_star",
    "Path-Star: the share of whole paths that are right, by graph and objective; the paper's "
    "graphs are hatched.",
    only("greedy", "sampled"),
    graphs,
)
