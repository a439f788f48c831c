"""What figures need of a run and no row can hold: how its loss fell, and its street map.

A run folder has them in metrics.jsonl and map_reconstruction.json; those of committed runs are in
results/curves (a line a run) and results/maps (a file a run).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from nextlat_bench.files import check_kinds, parse_json, read_bytes, whole_rows
from nextlat_bench.report.facts import grouped
from nextlat_bench.report.records import Record, record_file, shipped_files

__all__ = ["MAP_FILE", "Curve", "Exhibits", "StreetSketch", "collect_exhibits"]
__all__ += ["committed_exhibits", "curve_of", "curve_records", "to_json"]

MAP_FILE = "map_reconstruction.json"  # of a run folder
LAST = 2**63 - 1
POINTS = 50  # of a curve, at most


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Next-token loss in nats a scored token, on the training batches logged since the point
    before: the one part of the loss that all objectives share."""

    run: str
    steps: list[int]
    next_token: list[float]

    def __post_init__(self) -> None:
        if [type(step) for step in self.steps] != [int] * len(self.next_token):
            raise ValueError("steps, next_token: expected as many whole numbers as losses")
        if not all(0 <= step <= LAST for step in self.steps):
            raise ValueError(f"steps: expected numbers from 0 to {LAST}")


@dataclass(frozen=True, kw_only=True)
class StreetSketch:
    """A map and what a run's traversals make of it; edges are pairs of nodes, both directed."""

    run: str
    source: str
    nodes: list[list[float]]  # (N, 2): longitude and latitude in degrees
    streets: list[list[int]]
    true_edges: list[list[int]]  # of the streets, those driven on
    false_edges: list[list[int]]

    def __post_init__(self) -> None:
        known = range(len(self.nodes))
        for edge in (*self.streets, *self.true_edges, *self.false_edges):
            pair = isinstance(edge, list) and [type(x) for x in edge] == [int, int]
            if not (pair and edge[0] in known and edge[1] in known):
                raise ValueError(f"an edge {edge!r}: expected two of its {len(known)} nodes")
        for place in self.nodes:
            pair = isinstance(place, list) and [type(x) for x in place] == [float, float]
            if not (pair and isfinite(place[0]) and isfinite(place[1])):
                raise ValueError(f"a node {place!r}: expected longitude and latitude")
        if not self.nodes:
            raise ValueError("it has no nodes")


@dataclass(frozen=True)
class Exhibits:
    """By run."""

    curves: Mapping[str, Curve] = field(default_factory=dict)
    maps: Mapping[str, StreetSketch] = field(default_factory=dict)


def to_json(exhibit: Curve | StreetSketch) -> bytes:
    """On one line."""
    return (json.dumps(vars(exhibit), separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def curve_of(run: str, rows: Sequence[Mapping[str, Any]]) -> Curve | None:
    """Of the rows of a training log. None: nothing was logged."""
    import numpy as np

    if not rows:
        return None
    parts = np.array_split(np.arange(len(rows)), min(POINTS, len(rows)))
    means = [float(np.mean([rows[i]["next_token"] for i in part])) for part in parts]
    return Curve(
        run=run,
        steps=[rows[part[-1]]["step"] for part in parts],
        next_token=[float(f"{mean:.4g}") for mean in means],
    )


def curve_records(records: Sequence[Record], exhibits: Exhibits) -> list[Record]:
    """The points of these runs' curves as rows of a probe "training"; they are never written."""
    found = []
    for _, group in grouped(records, lambda r: {"run": r.run}):
        curve = exhibits.curves.get(group[0].run)
        if curve is None:
            continue
        like = replace(
            group[0],
            probe="training",
            probe_parameters={},
            metric="next_token",
            higher_is_better=False,
            low=None,
            high=None,
            n=1,
            n_skipped=0,
            skipped_because="",
        )
        found += [
            replace(like, condition=f"step={step}", value=loss)
            for step, loss in zip(curve.steps, curve.next_token, strict=True)
        ]
    return found


def run_folders(*paths: Path) -> list[Path]:
    """Those of the paths that are run folders, and the run folders in them."""
    folders = [path for path in paths if path.is_dir()]
    folders += [inner for path in folders for inner in sorted(path.glob("*/"))]
    return [folder for folder in folders if (folder / "run.json").is_file()]


def run_of(folder: Path) -> str:
    """As its records say, whatever the folder is called now."""
    for file in (folder / record_file("test"), folder / record_file("validation")):
        if file.is_file() and (rows := whole_rows(read_bytes(file).partition(b"\n")[0], run=str)):
            return str(rows[0]["run"])
    return folder.name


def collect_exhibits(*paths: Path) -> Exhibits:
    """Those of run folders, and of the run folders in folders, over the committed ones."""
    known = committed_exhibits()
    curves, maps = dict(known.curves), dict(known.maps)
    for folder in run_folders(*paths):
        log, sketch = folder / "metrics.jsonl", folder / MAP_FILE
        if log.is_file():
            rows = whole_rows(read_bytes(log), step=int, next_token=float)
            try:
                curve = curve_of(run_of(folder), rows)
            except ValueError as error:
                raise ValueError(f"{log} is damaged ({error}): restore it, or delete it") from None
            if curve:
                curves[curve.run] = curve
        if sketch.exists():
            found = _parse(StreetSketch, read_bytes(sketch), str(sketch))
            maps[found.run] = found
    return Exhibits(curves, maps)


@cache
def committed_exhibits() -> Exhibits:
    """Those that ship with the suite."""
    return Exhibits(_committed("curves", Curve), _committed("maps", StreetSketch))


T = TypeVar("T", Curve, StreetSketch)


def _committed(folder: str, kind: type[T]) -> dict[str, T]:
    """A line an exhibit."""
    found = [
        _parse(kind, line, f"the committed {folder}/{file.name}")
        for file in shipped_files(folder)
        for line in file.read_bytes().splitlines()
    ]
    return {exhibit.run: exhibit for exhibit in found}


def _parse(kind: type[T], data: bytes, where: str) -> T:
    kinds = {f.name: str if f.type is str else list for f in fields(kind)}
    try:
        value = check_kinds(parse_json(data), where, **kinds)
        return kind(**{name: value[name] for name in kinds})
    except ValueError as error:
        raise ValueError(
            f"{where} is damaged ({error}): delete it and make it again by `nextlat-bench probe`"
        ) from None
