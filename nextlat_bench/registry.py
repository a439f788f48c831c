"""A file's name is its plugin's name: tasks/taxi.py holds the task `taxi`. No list is kept by hand.

Listing names and one-line summaries executes none of the plugins' files, so it never loads torch.
"""

import ast
import difflib
import importlib
import importlib.util
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

from nextlat_bench.files import check_kinds

__all__ = ["KINDS", "Kind", "check_name", "from_json", "load", "names", "summary", "to_json"]

Kind = Literal["tasks", "objectives", "probes", "presets"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def _folder(kind: Kind) -> Path:
    spec = importlib.util.find_spec(f"nextlat_bench.{kind}")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{kind!r} is no kind of plugin: expected one of {', '.join(KINDS)}")
    return Path(next(iter(spec.submodule_search_locations)))


def names(kind: Kind) -> list[str]:
    """The plugins of a kind, in alphabetical order."""
    files = _folder(kind).glob("*.py")
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def check_name(kind: str, name: str, known: list[str]) -> str:
    """Returns `name`, or raises a ValueError: what there is, and what was perhaps meant."""
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"no {kind} named {name!r}{hint} (there are: {', '.join(known)})")


def summary(kind: Kind, name: str) -> str:
    """The first line of the plugin's docstring, read without importing it."""
    source = (_folder(kind) / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def load(kind: Kind, name: str) -> Any:
    """The plugin itself: the one class in the module's `__all__` that has a `name`.

    Presets have no class: their module is returned.
    """
    check_name(kind.removesuffix("s"), name, names(kind))
    module = importlib.import_module(f"nextlat_bench.{kind}.{name}")
    if kind == "presets":
        return module
    found = [
        value
        for value in (getattr(module, public) for public in module.__all__)
        if inspect.isclass(value) and getattr(value, "name", None) == name
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__}.__all__ must hold one class whose name is {name!r}")
    return found[0]


def to_json(plugin: Any) -> dict[str, Any]:
    """{"name": ..., "parameters": {...}}: all that `from_json` needs to build an equal value."""
    if hasattr(plugin, "parameters"):
        parameters = plugin.parameters()
    else:
        parameters = {f.name: getattr(plugin, f.name) for f in fields(plugin)}
    return {"name": plugin.name, "parameters": parameters}


def from_json(kind: Kind, value: dict[str, Any]) -> Any:
    """Inverse of `to_json`. An unknown name or parameter is a ValueError."""
    check_kinds(value, kind.removesuffix("s"), name=str, parameters=dict)
    plugin = load(kind, value["name"])
    known = [f.name for f in fields(plugin)]
    for parameter in value["parameters"]:
        check_name(f"parameter of {value['name']}", parameter, known)
    return plugin(**value["parameters"])
