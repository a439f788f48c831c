"""Self-speculative decoding: what is accepted of a draft, and what that saves."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nextlat_bench.report.figures.curves import measured
from nextlat_bench.report.figures.scene import Drawing, Scene, seeds_beside, value
from nextlat_bench.report.figures.style import (
    GREY,
    MEAN,
    SEED,
    canvas,
    legend,
    look,
    means,
    one_line,
)
from nextlat_bench.report.layouts import Column, Layout
from nextlat_bench.report.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DRAFTS"]

PLACE = re.compile(r"draft=(\w+),kind=(\w+)")
# metric -> its probe and what it is called
METRICS = {
    "accepted": ("speculation", "Accepted"),
    "bound": ("speculation", "Tokens a round at most"),
    "speedup": ("speculation_speed", "Speed-up"),
}
DASHES: tuple[Any, ...] = ("-", (0, (2.5, 1.2)), (0, (1, 1)), (0, (6, 2, 1, 2)))  # by horizon


def columns(layout: Layout, records: Sequence[Record]) -> tuple[Column, ...]:
    """Each metric, kind of text and length of a draft; the table's own where it is one of them,
    beside which the paper's number stands."""
    own = {(c.metric, c.conditions): c.key for c in layout.columns}
    places = {match.groups() for r in records if (match := PLACE.fullmatch(r.condition))}
    return tuple(
        Column(
            own.get((metric, (f"draft={draft},kind={kind}",)), ""),
            *(f"{said}, {kind}, draft {draft}", probe, metric),
            (f"draft={draft},kind={kind}",),
            {"sampled": False},
            form=".2f",
        )
        for metric, (probe, said) in METRICS.items()
        for draft, kind in sorted(places, key=lambda place: (place[1], length(place[0])))
    )


def length(draft: str) -> float:
    return int(draft) if draft.isdigit() else float("inf")


def place(column: Column) -> tuple[str, str]:
    """Its draft and kind."""
    match = PLACE.fullmatch(column.conditions[0])
    assert match
    return match[1], match[2]


def drafts(scene: Scene) -> "Figure":
    """For each setting accepted tokens above and the speed-up below, a panel a kind of text."""
    at = {(c.metric, *place(c)): i for i, c in enumerate(scene.layout.columns)}
    kinds = sorted({kind for _, _, kind in at})
    known = sorted({draft for _, draft, _ in at}, key=length)
    horizons = sorted({row.variant.get("horizon", 0) for b in scene.blocks for row in b.rows})
    out, axes = canvas(2 * len(scene.blocks), len(kinds), height=3.0)
    panels = iter(axes)
    for block in scene.blocks:
        for metric, said in (("accepted", "accepted tokens a round"), ("speedup", "speed-up")):
            for k, kind in enumerate(kinds):
                panel = next(panels)
                for row in block.rows:
                    points = [
                        (x, value(row, at[metric, draft, kind])) for x, draft in enumerate(known)
                    ]
                    colour, marker = look(row.objective)
                    dashes = DASHES[horizons.index(row.variant.get("horizon", 0)) % len(DASHES)]
                    if row.source == "measured":
                        looks = MEAN | {"color": colour, "marker": marker, "markersize": 5}
                        panel.plot(*zip(*points, strict=True), **looks, linestyle=dashes)
                        if metric == "accepted":  # one of a round is always accepted
                            most = [
                                (x, value(row, at["bound", draft, kind]) - 1)
                                for x, draft in enumerate(known)
                            ]
                            looks = {"color": colour, "linestyle": "none", "marker": "_"}
                            panel.plot(*zip(*most, strict=True), **looks, markersize=11)
                    elif row.source == "paper":
                        looks = {"color": "none", "marker": marker, "markeredgecolor": colour}
                        panel.plot(*zip(*points, strict=True), **looks)
                for beside, row in seeds_beside(block.rows):
                    for x, draft in enumerate(known):
                        looks = SEED | {"markeredgecolor": look(row.objective)[0]}
                        looks |= {"markersize": 3.5}
                        panel.plot(x + 0.5 * beside, value(row, at[metric, draft, kind]), **looks)
                panel.set_xticks(range(len(known)), known)
                panel.set_ylim(0, None)
                if metric == "speedup":
                    panel.axhline(1, color=GREY, linewidth=1.0)
                    panel.set_xlabel("tokens a draft")
                if k == 0:
                    panel.set_ylabel(said)
                if metric == "accepted":
                    panel.set_title(f"{block.heading}\n{kind}" if k == 0 else kind, loc="left")
    entries = means(scene.objectives)
    for horizon, dashes in zip(horizons, DASHES, strict=False):
        if horizon:
            entries[f"d = {horizon}"] = one_line(color=GREY, linestyle=dashes)
    entries["one seed"] = one_line(**SEED)
    entries["most possible"] = one_line(color=GREY, linestyle="none", marker="_", markersize=11)
    entries["paper"] = one_line(color="none", marker="o", markeredgecolor=GREY)
    legend(out, entries)
    return out


DRAFTS = Drawing(
    "speculation",
    "Self-speculative decoding: accepted tokens a round and the speed-up over plain greedy "
    "decoding, by the length of a draft.",
    columns,
    drafts,
    by_horizon=True,
    keep=measured,
)
