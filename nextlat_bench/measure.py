"""Probes a subject and writes what was measured as records, probe by probe."""

import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from nextlat_bench import registry
from nextlat_bench.files import atomic_write
from nextlat_bench.presets._general import probes_of
from nextlat_bench.probes._core import Measurement, NotApplicable, Probe, unmeasured
from nextlat_bench.report.facts import Facts
from nextlat_bench.report.records import Record, own, plain, record_file
from nextlat_bench.run import Run, Scale
from nextlat_bench.sources import source
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import Batch, IntArray, Split, Task

__all__ = ["chosen_probes", "known_identity", "measure"]
__all__ += ["model_identity", "run_identity"]

Identity = dict[str, Any]  # the fields of a record that name the run


class _OnSplit:
    """A task whose other split stands where probes ask for the test split."""

    def __init__(self, task: Task, split: Split) -> None:
        self.task, self.split = task, split

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def asked(self, split: Split) -> Split:
        return self.split if split == "test" else split

    def sample(self, split: Split, start: int, n: int) -> Batch:
        return self.task.sample(self.asked(split), start, n)

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        return self.task.prompts(self.asked(split), start, n)

    def of_length(self, split: Split, start: int, n: int, length: int) -> Batch | None:
        return self.task.of_length(self.asked(split), start, n, length)


def run_identity(run: Run) -> Identity:
    """What a trained run's records say of it. Written now, never re-read from later code."""
    value = run.to_json()
    return {
        "run": run.id,
        "task": run.task.name,
        "task_parameters": value["task"]["parameters"] | source(run.task),
        "objective": run.objective.name,
        "objective_parameters": value["objective"]["parameters"] | source(run.objective),
        "decoder": value["decoder"],
        "training": value["training"],
        "scale": run.scale,
        "seed": run.seed,
        "step": run.training.steps,
    }


def known_identity(name: str, task: Task, scale: str) -> Identity:
    """What the records of a known-answer subject say of it; its seed is the task's own."""
    parameters = task.parameters() | source(task)
    canonical = json.dumps(parameters, sort_keys=True).encode()
    return {
        "run": f"{task.name}-{name}-{scale}-{zlib.crc32(canonical):08x}",
        "task": task.name,
        "task_parameters": parameters,
        "objective": name,
        "objective_parameters": {},
        "decoder": {},
        "training": {},
        "scale": scale,
        "seed": getattr(task, "seed", 0),
        "step": 0,
    }


def model_identity(kind: str, facts: Facts, task: Task, scale: str) -> Identity:
    """What the records of somebody's own model say of it: `facts`, of which "model" names it."""
    if facts["model"] == kind:  # the default: two of them would be one
        raise ValueError(f"a model named {kind!r}: give it a name of its own, name=...")
    canonical = json.dumps([facts, task.parameters() | source(task)], sort_keys=True).encode()
    name = re.sub(r"[^\w.-]+", "-", facts["model"])
    digest = hashlib.sha256(canonical).hexdigest()[:8]
    return known_identity(kind, task, scale) | {
        "run": f"{task.name}-{name}-{scale}-{digest}",
        "objective_parameters": facts,
    }


def chosen_probes(task: str, scale: Scale, names: list[str] | None) -> list[Probe]:
    """The preset's probes, or those of the names given (with their defaults if not in it)."""
    probes = probes_of(task, scale)
    if not names:
        return list(probes)
    kinds = [registry.load("probes", name) for name in names]
    return [p for kind in kinds for p in [q for q in probes if type(q) is kind] or [kind()]]


def measure(
    subject: Subject,
    task: Task,
    probes: Sequence[Probe],
    identity: Identity,
    folder: str | Path,
    progress: Callable[[str, int, int], None] | None = None,
    split: str = "test",
) -> list[Record]:
    """Runs each probe that the folder's records lack and adds its own there, atomically.

    `progress` is told which probe begins, how many are done and of how many. With split
    "validation" nothing is read of the test split: for choosing settings. Returns all
    records of the split.
    """
    folder = Path(folder)
    path = folder / record_file(split)
    seen = task if split == "test" else cast(Task, _OnSplit(task, cast(Split, split)))
    records = own(path)
    if others := {record.run for record in records} - {identity["run"]}:
        raise ValueError(f"{path} has records of {min(others)}: give {identity['run']} its own")
    folder.mkdir(parents=True, exist_ok=True)  # once: none that is removed meanwhile comes back
    for index, probe in enumerate(probes):
        parameters = registry.parameters(probe) | source(probe)
        wanted = probe.name, plain(parameters)

        def stream(name: str = probe.name) -> np.random.Generator:
            """Each probe its own, so that adding one changes no other."""
            return np.random.default_rng([identity["seed"], zlib.crc32(name.encode())])

        known = any((r.probe, r.probe_parameters) == wanted for r in records)
        if progress and not known:
            progress(probe.name, index, len(probes))
        kept = folder / f"{probe.name}.json"
        if split == "test" and not (known and kept.exists()):
            with suppress(NotApplicable):
                if (exhibit := probe.exhibit(subject, seen, stream())) is not None:
                    atomic_write(kept, exhibited(exhibit, probe.name, identity["run"]))
        if known:
            continue
        records = [r for r in records if not same_but_for_code(r, *wanted)]
        records += rows(probe.measure(subject, seen, stream()), probe, parameters, identity)
        atomic_write(path, "".join(record.line + "\n" for record in records).encode())
    if progress:
        progress("done", len(probes), len(probes))
    return records


def exhibited(exhibit: Any, probe: str, run: str) -> bytes:
    """A file's content; a ValueError where the probe gave what JSON cannot hold."""
    who = f"probe {probe}: its exhibit is"
    if not isinstance(exhibit, dict):
        raise ValueError(f"{who} a {type(exhibit).__name__}: expected a dict")
    try:
        return (json.dumps(exhibit | {"run": run}, separators=(",", ":")) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who} no JSON ({error})") from None


def check_possible(m: Measurement, unit: str, what: str) -> None:
    """Raises a ValueError for what no measurement can give."""
    if m.value is None or not m.n:
        return
    what = f"{what} is {m.value}"
    if math.isnan(m.value):
        raise ValueError(f"{what} over {m.n} trials: expected a number, or no trials")
    if unit == "share" and not -1e-9 <= m.value <= 1 + 1e-9:
        raise ValueError(f"{what}, and a share: expected 0 to 1")
    if m.low is not None and m.high is not None and m.low > m.high:
        raise ValueError(f"{what} from {m.low} to {m.high}: expected low <= high")


def same_but_for_code(record: Record, probe: str, parameters: dict[str, Any]) -> bool:
    """Did an older version of a plugin's file measure this?"""
    old, new = (
        {k: v for k, v in each.items() if k != "source_digest"}
        for each in (record.probe_parameters, parameters)
    )
    return (record.probe, old) == (probe, new)


def rows(
    measurements: Iterator[Measurement],
    probe: Probe,
    parameters: dict[str, Any],
    identity: Identity,
) -> list[Record]:
    """Measurements as records; where the probe does not apply, records without a value say why."""
    metrics = {metric.name: metric for metric in probe.metrics}
    who = f"probe {probe.name}"
    if not isinstance(measurements, Iterable):
        raise ValueError(f"{who} gave a {type(measurements).__name__}: expected Measurements")
    try:
        found: list[Measurement] = []
        seen: set[tuple[str, str]] = set()
        for m in measurements:
            if not isinstance(m, Measurement):
                raise ValueError(f"{who} gave a {type(m).__name__}: expected a Measurement")
            if m.metric not in metrics:
                raise ValueError(f"{who}: {m.metric!r} is none of its metrics")
            what = f"{m.metric} {m.condition}".strip()
            if (m.metric, m.condition) in seen:
                raise ValueError(f"{who} gave {what!r} twice")
            seen.add((m.metric, m.condition))
            check_possible(m, metrics[m.metric].unit, f"{who}: {what}")
            found.append(m)
    except NotApplicable as reason:
        found = [unmeasured(metric.name, str(reason)) for metric in probe.metrics]
    return [
        Record(
            **identity,
            probe=probe.name,
            probe_parameters=parameters,
            higher_is_better=metrics[m.metric].higher_is_better,
            **asdict(m),
        )
        for m in found
    ]
