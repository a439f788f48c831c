"""Writes the generated parts of docs/, which stand between `<!-- probe NAME -->`, `<!-- costs -->`
or `<!-- costs GPU -->`, and `<!-- end -->`.

python scripts/guides.py
"""

import re
import shlex
import zlib
from collections.abc import Iterator
from itertools import groupby
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import typer.main

from nextlat_bench import registry
from nextlat_bench.cli import app
from nextlat_bench.cli.measuring import cells
from nextlat_bench.known import known_subject
from nextlat_bench.plan import GPUS, USED, counts, duration
from nextlat_bench.presets._general import probes_of, run_of
from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.report.columns import DASH
from nextlat_bench.run import Run
from nextlat_bench.tasks._core import Task

DOCS = Path(__file__).parents[1] / "docs"
MARKED = r"<!-- (probe|costs) ?(\w*) -->.*?<!-- end -->"
TASKS = ("taxi", "path_star", "countdown", "a5")  # the first where a probe has values
DIRECTION = {True: "higher", False: "lower", None: "neither"}
RANGES = {"share": "0 to 1", "dimensions": "1 to the width"}
AT_LEAST_ONE = ("perplexity", "tau", "bound")


def filled(text: str) -> str:
    """A page with its generated parts written anew."""

    def part(found: re.Match[str]) -> str:
        kind, name = found[1], found[2]
        made = probe_part(name) if kind == "probe" else costs_part(text, name)
        return f"<!-- {kind}{name and ' ' + name} -->\n\n{made}\n\n<!-- end -->"

    return re.sub(MARKED, part, text, flags=re.DOTALL)


def probe_part(name: str) -> str:
    """What the registry knows of a probe, and what two models with known answers get."""
    kind: type[Probe] = registry.load("probes", name)
    task, oracle = next(
        ((t, found) for t in TASKS if (found := measured(kind, t, "oracle"))), ("", {})
    )
    chance = measured(kind, task, "uniform") if task else {}
    lines = ["| Metric | What it is | Range | Better | True world model | Uniform model |"]
    lines += ["|:--|:--|:--|:--|--:|--:|"]
    for metric in kind.metrics:
        values = [number(metric, found.get(metric.name)) for found in (oracle, chance)]
        least = int(metric.name in AT_LEAST_ONE)
        unit = RANGES.get(metric.unit, f"from {least}, {metric.unit}")
        direction = DIRECTION[metric.higher_is_better]
        row = [f"`{metric.name}`", metric.meaning.replace("|", r"\|"), unit, direction, *values]
        lines.append(f"| {' | '.join(row)} |")
    facts = {
        "Measured on": listed((task,) if task else ()),
        "Needs": ", ".join(sorted(kind.requires)),
        "Catches": listed(kind.catches),
        "Misses": listed(kind.misses),
    }
    lines += ["", *(f"* {key}: {value}" for key, value in facts.items() if value)]
    return "\n".join(lines).strip()


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def measured(kind: type[Probe], task: str, subject: str) -> dict[str, Measurement]:
    """The first row of each metric; on the laptop's data, in as few trials as the smoke scale's."""
    probe = next((p for p in probes_of(task, "smoke") if type(p) is kind), None)
    if probe is None:
        return {}
    data: Task = run_of(registry.load("tasks", task))("gpt", "laptop", 0).task
    rng = np.random.default_rng([0, zlib.crc32(probe.name.encode())])
    try:
        rows = list(probe.measure(known_subject(subject, data), data, rng))
    except NotApplicable:
        return {}
    return {row.metric: row for row in reversed(rows)}


def number(metric: Metric, row: Measurement | None) -> str:
    if row is None or isnan(row.value):
        return DASH
    return format(row.value, ".2f" if metric.unit == "share" else ".3g")


def costs_part(text: str, gpu: str) -> str:
    """Parameters and arithmetic of all that the sweeps of a page train, as `plan` counts them."""
    lines = [
        f"| Sweep | Objective | Runs | Parameters | FLOPs in all |{gpu and f' One {gpu.upper()} |'}"
    ]
    lines += [f"|:--|:--|--:|--:|--:|{gpu and '--:|'}"]
    lines += [f"| {head} | {costs(runs, gpu)} |" for head, _, runs in rows(text)]
    return "\n".join(lines)


def rows(text: str) -> Iterator[tuple[str, str, list[Run]]]:
    """(its first cells, the objective, its runs) of each row of a page's costs."""
    for sweep in sweeps(text):
        name = ", ".join([sweep["task"], *(sweep["settings"] or [])])
        for objective, some in groupby(cells(**sweep), lambda run: run.objective.name):
            runs = list(some)
            yield f"{name} | {objective} | {len(runs)}", objective, runs


def costs(runs: list[Run], gpu: str) -> str:
    """The other cells of a row."""
    counted = [(counts(run), run.training.steps) for run in runs]
    sizes = sorted({round(each["parameters"]) for each, _ in counted})
    few = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    flops = sum(each["flops_per_step"] * steps for each, steps in counted)
    time = [duration(flops / (USED * GPUS[gpu] * 1e12))] if gpu else []
    return " | ".join([few, f"{flops:.2g}", *time])


def sweeps(text: str) -> list[dict[str, Any]]:
    """What `cells` takes, of each sweep in a page."""
    found = []
    for line in re.findall(r"^\$ nextlat-bench sweep ([^#\n]*)", text, flags=re.MULTILINE):
        command = typer.main.get_command(app).commands["sweep"]  # type: ignore[attr-defined]
        given = command.make_context("sweep", shlex.split(line)).params
        names = ("task", "objective", "scale", "seeds", "streets", "graph", "settings")
        found.append({name: given[name] for name in names})
    return found


def main() -> None:
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
