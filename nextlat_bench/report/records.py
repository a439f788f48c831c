"""Measured rows, one JSON object a line.

Nothing dated goes into a row, so measuring again gives the same bytes.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from nextlat_bench.files import atomic_write, parse_json, read_bytes, visible
from nextlat_bench.report.facts import (
    CURRICULUM,
    Facts,
    Keyed,
    brief,
    differing,
    flat,
    grouped,
    say,
    told_apart,
)

__all__ = ["SCHEMA", "Record", "collect", "committed", "distinct", "found", "read"]
__all__ += ["collect_tried", "differing", "grouped", "one_protocol", "own", "plain"]
__all__ += ["record_file", "say", "shipped_files", "told_apart", "variants_of", "write"]

SCHEMA = 1
NAMES = ("run", "task", "objective", "scale", "probe", "metric", "condition")  # stand in tables
LARGEST = 10**300  # can still be a float
OTHER_SPLITS = ("train", "validation")  # measured while settings are chosen


def plain(value: Any) -> Any:
    """As JSON reads it back: numbers that are not finite become null, tuples and arrays lists."""
    if type(value) in (str, NoneType, bool):
        return value
    if type(value) is int:
        if abs(value) > LARGEST:
            raise ValueError("a whole number of more than 300 digits, which none here has")
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measured value, and all that is needed to say what it is of. Equal to what is read back.

    `objective` may be a subject whose answer is known ("oracle"). `value` None: not measured, and
    `skipped_because` says why. `low` and `high` bound the probe's own 95% interval over trials.
    """

    schema: int = SCHEMA
    run: str
    task: str
    task_parameters: dict[str, Any]
    objective: str
    objective_parameters: dict[str, Any]
    decoder: dict[str, Any]
    training: dict[str, Any]
    scale: str
    seed: int
    step: int
    probe: str
    probe_parameters: dict[str, Any]
    metric: str
    higher_is_better: bool | None
    condition: str = ""
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_skipped: int = 0
    skipped_because: str = ""

    def __post_init__(self) -> None:
        for name, allowed in _TYPES.items():
            value = plain(getattr(self, name))
            if float in allowed and type(value) is int:
                value = float(value)
            if type(value) not in allowed:
                wanted = " or ".join(kind.__name__ for kind in allowed)
                raise ValueError(f"{name} = {value!r}: expected {wanted}")
            object.__setattr__(self, name, value)

    @cached_property
    def line(self) -> str:
        """One line of JSON, keys in the fields' order."""
        row = {name: getattr(self, name) for name in _TYPES}
        return json.dumps(row, ensure_ascii=False, allow_nan=False)

    @cached_property
    def what(self) -> str:
        """What was measured, of whichever run: probe, its parameters, metric and condition."""
        return json.dumps([self.probe, self.probe_parameters, self.metric, self.condition])

    @cached_property
    def setting(self) -> Keyed:
        """What a block shares. A task's own seed is no setting: it goes with the run's; nor is what
        shapes the training alone, or the folder of a file, whose digest stands beside its name."""
        task = flat(self.task_parameters)
        shared = {k: brief(task[k]) for k in task if k not in ("seed", *CURRICULUM)}
        return Keyed({"scale": self.scale} | shared)

    @cached_property
    def recipe(self) -> Keyed:
        """All that decides the model but the seed and the setting. An objective's own field has
        its part's name before it where another fact is called the same."""
        how = flat({"decoder": self.decoder, "training": self.training})
        how |= {key: self.task_parameters.get(key) for key in CURRICULUM} | {"step": self.step}
        own = flat(self.objective_parameters)
        return Keyed({f"objective.{k}" if k in how else k: v for k, v in own.items()} | how)

    @cached_property
    def protocol(self) -> Keyed:
        """How the probe measured."""
        return Keyed(self.probe_parameters)


# field -> the exact types it may have, read off the annotations above
_TYPES: dict[str, tuple[type, ...]] = {
    name: (get_origin(hint),) if get_origin(hint) is dict else get_args(hint) or (hint,)
    for name, hint in get_type_hints(Record).items()
}
assert _TYPES["value"] == (float, NoneType)


def write(path: str | Path, records: Iterable[Record]) -> None:
    """Writes a file of records, whole or not at all; its folder is made where it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, "".join(record.line + "\n" for record in records).encode())


def read(path: str | Path) -> list[Record]:
    """The records of one file. A damaged line is a ValueError that names file and line."""
    return _parse(read_bytes(Path(path)), str(path))


def _parse(data: bytes, source: str) -> list[Record]:
    # split at b"\n" alone: a string of JSON may hold other characters that end a line elsewhere
    found = []
    for number, text in enumerate(data.split(b"\n"), start=1):
        if not text.strip():
            continue
        where = f"{source}, line {number}"
        try:
            found.append(_record(parse_json(text)))
        except _NewerSchemaError as error:
            raise ValueError(f"{where}: {error}") from None
        except ValueError as error:
            raise ValueError(
                f"{where}: {error}. If it is damaged, delete that run's records.jsonl and measure "
                "it again, by the same command or `nextlat-bench probe`, with the same bytes"
            ) from None
    return found


class _NewerSchemaError(ValueError):
    pass


def _record(row: Any) -> Record:
    if not isinstance(row, dict):
        raise ValueError("not a record (a JSON object)")
    schema = row.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise _NewerSchemaError(
            f"schema {schema} is newer than this version reads ({SCHEMA}): upgrade nextlat-bench"
        )
    if schema != SCHEMA:
        raise ValueError(f"schema = {schema!r}: not a record of nextlat-bench")
    missing, unknown = _TYPES.keys() - row.keys(), row.keys() - _TYPES.keys()
    if missing or unknown:
        what, names = ("lacks", missing) if missing else ("has unknown", unknown)
        raise ValueError(f"the record {what} {', '.join(sorted(names))}")
    return Record(**row)


class Distinct(list[Record]):
    """What `distinct` gives, which need not be gone through again."""


def listed(records: Iterable[Record]) -> list[Record]:
    """As a list; one that is distinct stays so."""
    return records if isinstance(records, list) else list(records)


def distinct(records: Iterable[Record]) -> Distinct:
    """Each measurement once, in a fixed order. Two that differ under one identity: a ValueError."""
    if isinstance(records, Distinct):
        return records
    return _distinct((record, "the records given") for record in records)


def _distinct(sourced: Iterable[tuple[Record, str]]) -> Distinct:
    return Distinct(sorted(_once(sourced), key=lambda record: record.line))


def _once(sourced: Iterable[tuple[Record, str]]) -> list[Record]:
    kept: dict[tuple[str, str], tuple[Record, str]] = {}
    for record, source in sourced:
        _check_names(record, source)
        first, where = kept.setdefault((record.run, record.what), (record, source))
        if first != record:
            places = where if where == source else f"{where} and {source}"
            metric = f"{record.probe} {record.metric} {record.condition}".strip()
            raise ValueError(
                f"run {record.run} has two different records of {metric} (in {places}): "
                "remove one, or the file, and measure the run again with `nextlat-bench probe`"
            )
    return [record for record, _ in kept.values()]


def _check_names(record: Record, source: str) -> None:
    """Refuses names that would command a terminal or end the line of a table."""
    for name in NAMES:
        if visible(value := getattr(record, name)) != value:
            raise ValueError(
                f"a record in {source} has {name} = {value!r}: expected a name without control "
                "characters; delete or mend it"
            )


def own(path: Path) -> list[Record]:
    """A run's records, if it has any, in the file's order: what was merged in twice stands once."""
    return _once((record, str(path)) for record in read(path)) if path.exists() else []


def record_file(split: str) -> str:
    """The file of a folder's records; only those of the test split are ever put into tables."""
    return "records.jsonl" if split == "test" else f"{split}.jsonl"


def collect(*paths: str | Path) -> list[Record]:
    """The records of files, run folders, folders of run folders and folders of *.jsonl files."""
    files = [file for path in paths for file in _files(Path(path))]
    return _distinct((record, str(file)) for file in files for record in read(file))


def collect_tried(*paths: Path) -> list[Record]:
    """The records of the validation split of run folders, and of the run folders in folders."""
    name = record_file("validation")
    files = [file for path in paths for file in (path / name, *sorted(path.glob(f"*/{name}")))]
    return _distinct((r, str(file)) for file in files if file.is_file() for r in read(file))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix != ".jsonl":
            raise ValueError(f"{path}: expected a folder of runs, a run or a .jsonl file")
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder of records")
    if (path / "run.json").exists():  # a run folder; its metrics.jsonl is the training log
        return [file for file in [path / "records.jsonl"] if file.exists()]
    no_records = ["metrics.jsonl", *map(record_file, OTHER_SPLITS)]  # run.json may be lost
    files = set(path.glob("*.jsonl")) - {path / name for name in no_records}
    # a folder that may not be read is an error here, which a glob would pass over
    inside = (child / record_file("test") for child in path.iterdir() if child.is_dir())
    return sorted(files | {file for file in inside if file.exists()})


def shipped_files(folder: str) -> list[Traversable]:
    """The files of a folder of results/, by name; an empty one does not survive packaging."""
    path = resources.files("nextlat_bench.results") / folder
    return sorted(path.iterdir(), key=lambda file: file.name) if path.is_dir() else []


def committed() -> list[Record]:
    """The records that ship with the suite."""
    return _distinct(
        (record, f"the committed {file.name}")
        for file in shipped_files("records")
        if file.name.endswith(".jsonl")
        for record in _parse(file.read_bytes(), f"the committed {file.name}")
    )


def found(paths: Sequence[Path], shipped: bool = False) -> tuple[list[Record], str]:
    """The records of paths and their source in words; without any, of runs/, else committed."""
    own = Path("runs")
    if paths:
        return collect(*paths), ", ".join(map(str, paths))
    if not shipped and own.is_dir() and (records := collect(own)):
        return records, str(own)
    return committed(), "the committed records of nextlat-bench"


def variants_of(records: Sequence[Record]) -> list[tuple[Facts, list[Record]]]:
    """One objective's records by all that decides the model but the seed; by run where two runs
    still share a seed, for these differ in something that records do not hold."""

    found = []
    for facts, group in grouped(records, lambda r: r.recipe):
        runs = {(r.seed, r.run) for r in group}
        if len(runs) == len({seed for seed, _ in runs}):
            found.append((facts, group))
        else:
            by_run = grouped(group, lambda r: {"run": r.run})
            found += [(facts | fact, part) for fact, part in by_run]
    return found


def one_protocol(records: Iterable[Record]) -> list[Record]:
    """Values under several probe parameters are never mixed: those with the most seeds, then the
    most trials, by seed."""

    def weight(protocol: tuple[Facts, list[Record]]) -> tuple[int, int, str]:
        trials = [r.n for r in protocol[1] if r.value is not None]
        return len(trials), sum(trials), json.dumps(protocol[0])

    records = list(records)
    if len(records) < 2:
        return records
    protocols = grouped(records, lambda r: r.protocol)
    return sorted(max(protocols, key=weight)[1], key=lambda r: r.seed)
