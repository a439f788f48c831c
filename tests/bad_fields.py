"""Wrong values for every field of every public class, by the field's type, and damaged JSON."""

import dataclasses
import math
import types
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from report_records import record

from nextlat_bench import registry
from nextlat_bench.presets import path_star
from nextlat_bench.report.records import Record
from nextlat_bench.run import DecoderConfig, Run, Training
from nextlat_bench.tasks.taxi import StreetMap

__all__ = ["JSON_DAMAGE", "OWNERS", "base", "wrong_fields"]

OBJECT = object()
NEVER = [None, math.nan, b"3", OBJECT, {}]
WRONG: dict[object, list[Any]] = {  # kind -> what is none of it
    int: [*NEVER, "3", "", True, 1.5, math.inf, -1, 10**18, 10**400, [3]],
    float: [*NEVER, "3", "", True, math.inf, -math.inf, -1, -0.5, 10**400, [0.5]],
    bool: [*NEVER, "true", "", 1, 0, [True]],
    Literal: [*NEVER, "", "no\0ne", "ünknown", "x" * 10**6, 3, True, []],
    tuple: [*NEVER, "0.5", 3, True, [None], ["x"], [math.nan], [-1], [[]], [10**400], ("\0",)],
}
NO_SOURCE = [None, 3, True, "", "  ", "a\0b", "a\nb", b"heliopolis", [], {}, {"source": "x"}]
NO_ARRAY = [None, 3, "x", [], np.zeros(3), np.zeros((2, 9)), np.full((144, 8), "x")]
SPECIAL: dict[str, list[Any]] = {  # fields whose type says too little
    "Taxi.streets": NO_SOURCE,
    "A5.group": WRONG[Literal],
    "Language.source": [None, 3, True, "", "  ", "a\0b", b"python", [], {}, "no/such", "x" * 5_000],
    "Language.digest": [3, True, b"x", [], "0" * 16],
    "StreetMap.source": [None, 3, b"x", []],
    "StreetMap.neighbour": [*NO_ARRAY, np.full((144, 8), 144), np.full((144, 8), -2)],
    "StreetMap.length": NO_ARRAY,
    "StreetMap.node_ids": NO_ARRAY,
    "StreetMap.longitude": NO_ARRAY[1:],
    "StreetMap.latitude": NO_ARRAY,
    "Record.higher_is_better": ["yes", 1, 0.5, []],
    **{f"Run.{part}": [*NEVER, "taxi", 3] for part in ("task", "objective", "decoder", "training")},
}
BEYOND = {  # right by their type
    "heldout": [0, 1e-300, 0.5],
    "learning_rate": [1e300],
    "muon_learning_rate": [1e300],
    "weight_decay": [1e300],
    "decay_power": [1e300],
}


def of(kind: str) -> dict[str, type]:
    return {f"{kind} {name}": registry.load(kind, name) for name in registry.names(kind)}  # type: ignore[arg-type]


OWNERS: dict[str, Any] = {
    **of("tasks"),
    **of("objectives"),
    **of("probes"),
    "StreetMap": StreetMap,
    "DecoderConfig": DecoderConfig,
    "Training": Training,
    "Run": Run,
    "Record": Record,
}


@cache
def base(owner: type) -> dict[str, Any]:
    """Right values for what has no default."""
    run = path_star.run("nextlat", "smoke")
    if owner is Training:
        return {"steps": 10, "examples": 8}
    if owner is Run:
        return {"task": run.task, "objective": run.objective} | {
            "decoder": run.decoder,
            "training": run.training,
        }
    if owner is Record:
        return dataclasses.asdict(record())
    if owner is StreetMap:
        streets = StreetMap.load("heliopolis").crop(500)
        return {f.name: getattr(streets, f.name) for f in fields(StreetMap)}
    return {}


def wrong_fields(owner: Any) -> Iterator[tuple[str, Any, str]]:
    """(field, wrong value, what must be said) for each field."""
    hints = get_type_hints(owner)
    for name in (field.name for field in fields(owner)):
        where = f"{owner.__name__}.{name}"
        kinds = get_args(hints[name]) if is_union(hints[name]) else (hints[name],)
        if owner is Record:  # a row may hold any number of its type; -1 or 10**18 seeds among them
            yield from ((name, value, f"{name} = ") for value in of_no_type(kinds))
        elif where in SPECIAL:
            said = "streets = " if name == "streets" else f"{where} = "
            yield from ((name, value, said) for value in SPECIAL[where])
        elif name != "notes":
            (kind,) = (get_origin(k) or k for k in kinds if k is not types.NoneType)
            for value in WRONG[kind]:
                if not (value is None and types.NoneType in kinds):
                    yield name, value, f"{where} = "
            yield from ((name, value, f"{where} = ") for value in BEYOND.get(name, []))


def of_no_type(kinds: tuple[Any, ...]) -> list[Any]:
    plain = [get_origin(kind) or kind for kind in kinds]
    values: dict[type, Any] = {types.NoneType: None, str: "x", list: [1], dict: {}, bool: True}
    values |= {} if float in plain else {int: 3, float: 0.5}
    return [value for kind, value in values.items() if kind not in plain]


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


# -- Run.from_json --------------------------------------------------------------------------


def put(*path: str, value: Any) -> Callable[[Any], Any]:
    """The run's JSON with an entry replaced; taken out where the value is OBJECT."""

    def damage(whole: Any) -> Any:
        part = whole = deepcopy(whole)
        for key in path[:-1]:
            part = part[key]
        if value is OBJECT:
            del part[path[-1]]
        else:
            part[path[-1]] = value
        return whole

    return damage


PARTS = ("schema", "task", "objective", "decoder", "training", "seed", "scale")
JSON_DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{f"whole {v!r}": (lambda _, v=v: v, "run.json is no object") for v in (None, 3, "x", [])},
    **{f"no {part}": (put(part, value=OBJECT), part) for part in PARTS},
    **{f"{p} {v!r}": (put(p, value=v), p) for p in PARTS for v in (None, [], "", math.nan)},
    **{f"{p}.name {v!r}"[:30]: (put(p, "name", value=v), p) for p in PARTS[1:3] for v in (None, 3)},
    "unknown task": (put("task", "name", value="taxy"), "did you mean 'taxi'"),
    "a path as task": (put("task", "name", value="../run"), "no task named"),
    "unknown objective": (put("objective", "name", value="os"), "no objective named 'os'"),
    "unknown parameter": (put("task", "parameters", "x", value=1), "no parameter of path_star"),
    "no parameters": (put("task", "parameters", value=OBJECT), "parameters is missing"),
    "listed parameters": (put("task", "parameters", value=[1]), "parameters is missing, or no"),
    "wrong parameter": (put("task", "parameters", "degree", value="2"), "PathStar.degree = '2'"),
    "huge parameter": (put("task", "parameters", "degree", value=10**18), "PathStar.degree = "),
    "unknown size": (put("decoder", "depth", value=3), "depth"),
    "wrong size": (put("decoder", "layers", value=True), "DecoderConfig.layers = True"),
    "no steps": (put("training", "steps", value=OBJECT), "steps"),
    "wrong steps": (put("training", "steps", value=0), "Training.steps = 0"),
    "wrong horizon": (put("objective", "parameters", "horizon", value=1.5), "NextLat.horizon"),
    "newer": (put("schema", value=2), "schema 2, this version reads 1"),
    "negative seed": (put("seed", value=-1), "Run.seed = -1"),
    "true seed": (put("seed", value=True), "Run.seed = True"),
    "unknown scale": (put("scale", value="huge"), "Run.scale = 'huge'"),
}
