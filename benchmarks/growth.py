"""How cost grows: a training step, a map's tables and its walks, beside the law one expects.

Each panel starts at a laptop-scale size and changes one thing. The law is scaled to go through the
largest size, where it should hold best.
"""

import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from benchmarks._core import FOLDER, Section, alternate, one_thread, spread
from benchmarks.peers import Shape
from benchmarks.training import matrix_flops, ours, stream, walks
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.tasks._streets import StreetMap
from nextlat_bench.tasks.taxi import Taxi

__all__ = ["run"]

BASE = Shape(layers=4, heads=4, width=128, batch=32, length=64)
SIZES: dict[str, tuple[int, ...]] = {
    "width": (32, 64, 128, 256, 512),
    "layers": (1, 2, 4, 8, 16),
    "length": (16, 32, 64, 128, 256, 512),
    "horizon": (1, 2, 4, 8, 16),
}
RADII = (400.0, 800.0, 1_200.0, 1_800.0, 2_500.0, 10_000.0)  # metres around the map's centre
ROUNDS = 3

Panel = dict[str, Any]  # x, y (each a list), law, labels


def steps(task: Taxi) -> dict[str, Panel]:
    """Milliseconds of a NextLat step against each size; law: FLOPs of the matrix products."""
    vocab, panels = len(task.vocab), {}
    for field, values in SIZES.items():
        sides: dict[str, Callable[[], object]] = {}
        flops = []
        for value in values:
            horizon = value if field == "horizon" else 1
            shape = BASE if field == "horizon" else replace(BASE, **{field: value})
            tokens = stream(task, shape.batch, shape.length)
            sides[str(value)] = ours(NextLat(horizon=horizon), shape, tokens, vocab)[1]
            flops.append(matrix_flops(horizon, shape, vocab))
        seconds = alternate(sides, ROUNDS)
        panels[field] = {
            "x": list(values),
            "y": [1e3 * spread(seconds[str(value)])[1] for value in values],
            "law": flops,
            "labels": (field, "ms a step", "FLOPs of the matrix products"),
        }
    return panels


def maps() -> dict[str, Panel]:
    """Peak memory and seconds of a map's table of all pairs, and of its walks, by its size."""
    streets = StreetMap.load("heliopolis")
    sizes, peaks, table_seconds, walk_rates = [], [], [], []
    for radius in RADII:
        part = streets.crop(radius)
        sizes.append(part.num_nodes)
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.dict(os.environ, {"NEXTLAT_BENCH_CACHE": folder}),
        ):
            tracemalloc.start()
            begin = time.perf_counter()
            part.hops()
            table_seconds.append(time.perf_counter() - begin)
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
            tracemalloc.stop()
        task = Taxi(streets=part, max_nodes=100)
        task.sample("train", 0, 1)
        begin = time.process_time()
        batch = task.sample("train", 2**20, 2**14)
        walk_rates.append((batch.document >= 0).sum() / (time.process_time() - begin) / 1e6)
    n = "intersections"
    return {
        "memory": {
            "x": sizes,
            "y": peaks,
            "law": [size**2 for size in sizes],
            "labels": (n, "peak MiB, all pairs of hops", "intersections squared"),
        },
        "table": {
            "x": sizes,
            "y": table_seconds,
            "law": [size**2 for size in sizes],
            "labels": (n, "seconds, all pairs of hops", "intersections squared"),
        },
        "walks": {
            "x": sizes,
            "y": walk_rates,
            "law": [1.0 for _ in sizes],
            "labels": (n, "million tokens a second, walks", "the same on every map"),
        },
    }


def draw(panels: dict[str, Panel]) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    grid = figure.subplots(2, 4)
    for axis, panel in zip(grid.flat, panels.values(), strict=False):
        x, y, law = panel["x"], panel["y"], panel["law"]
        expected = [v * y[-1] / law[-1] for v in law]
        axis.plot(x, expected, "--", color="0.6", label="law")
        axis.plot(x, y, "o-", color="tab:blue", label="measured")
        axis.set(xscale="log", yscale="log", xlabel=panel["labels"][0], ylabel=panel["labels"][1])
        after = zip(x, [*x[1:], float("inf")], strict=True)
        ticks = [v for v, larger in after if larger > 1.3 * v]  # labels side by side
        axis.set_xticks(ticks, [f"{v:,}" for v in ticks], rotation=45 if max(x) > 999 else 0)
        rise = max(y) / min(y)
        subs = (1.0, 2.0, 5.0) if rise < 10 else (1.0, 3.0) if rise < 100 else (1.0,)
        axis.yaxis.set_major_locator(LogLocator(subs=subs))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        axis.minorticks_off()
        axis.set_title(f"law: {panel['labels'][2]}", fontsize=9)
        axis.set_ylim(min(*y, *expected) / 2, max(*y, *expected) * 2)
    for axis in grid.flat[len(panels) :]:
        axis.set_visible(False)
    grid.flat[0].legend(frameon=False)
    figure.savefig(FOLDER / "benchmark-growth.png", dpi=120)


def run() -> list[Section]:
    with one_thread():
        panels = {**steps(walks()), **maps()}
    draw(panels)
    table = Section(
        f"How cost grows (NextLat steps at {BASE}; the plot is benchmark-growth.png)",
        ["against", "sizes", "measured", "growth from least to largest", "of the law"],
    )
    for name, panel in panels.items():
        x, y, law = panel["x"], panel["y"], panel["law"]
        table.add(
            name,
            ", ".join(f"{v:,}" for v in x),
            ", ".join(f"{v:.3g}" for v in y),
            f"{y[-1] / y[0]:,.2f} times",
            f"{law[-1] / law[0]:,.2f} times",
        )
        table.facts[name] = panel
    return [table]
