"""A built-in plugin's name is its file's: tasks/taxi.py holds the task `taxi`. Another package's
goes by an entry point of the group `nextlat_bench.tasks`, or by `package.module:Class`.

No list is kept by hand. Finding names executes no plugin's file, so it never loads torch.
"""

import ast
import difflib
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nextlat_bench.files import check_kinds

__all__ = [
    "KINDS",
    "SAFE",
    "Kind",
    "blamed",
    "check_name",
    "check_safe",
    "entries",
    "expect_foreign",
    "find",
    "from_json",
    "has",
    "hints",
    "installed",
    "load",
    "names",
    "parameters",
    "summary",
    "to_json",
]

Kind = Literal["tasks", "objectives", "probes", "presets"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DOTTED = re.compile(r"(\w+(?:\.\w+)*)(?:\s*:\s*(\w+(?:\.\w+)*))?")  # module, Class
FOREIGN: set[str] = set()  # top-level packages of the plugins that were loaded from elsewhere
TAKEN = ("provenance", "run", "trained")  # NAME.json of a run folder, where exhibits go, too
SAFE = re.compile(r"[a-z0-9][a-z0-9_-]*")  # run ids are folders


def _folder(kind: Kind) -> Path:
    spec = importlib.util.find_spec(f"nextlat_bench.{kind}")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{kind!r} is no kind of plugin: expected one of {', '.join(KINDS)}")
    return Path(next(iter(spec.submodule_search_locations)))


def names(kind: Kind) -> list[str]:
    """The built-in plugins of a kind, in alphabetical order."""
    files = _folder(kind).glob("*.py")
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def installed(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Entry points of a kind by name, one for each distribution that has it; none is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=f"nextlat_bench.{kind}")):
        found.setdefault(point.name, []).append(point)
    return found


def has(kind: Kind, name: str) -> bool:
    """Is there a plugin of this name, built in or installed? Nothing is imported."""
    return name in names(kind) or name in installed(kind)


def check_name(kind: str, name: str, known: list[str]) -> str:
    """Returns `name`, or raises a ValueError: what there is, and what was perhaps meant."""
    if name in known:
        return name
    if not known:
        raise ValueError(f"no {kind} named {name!r}: there is none at all")
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"no {kind} named {name!r}{hint} (there are: {', '.join(known)})")


def check_safe(plugin: Any, who: str = "") -> str:
    """The plugin's name, or a ValueError if it cannot be part of a folder's."""
    name = getattr(plugin, "name", None)
    if isinstance(name, str) and SAFE.fullmatch(name):
        return name
    who = who or type(plugin).__qualname__
    expected = "a-z, 0-9, _ and - alone, the first of them a letter or a digit"
    raise ValueError(f"{who} has the name {name!r}: expected {expected}")


def find(kind: Kind, name: str) -> EntryPoint:
    """Where a plugin is; it is not imported. A built-in wins; an unknown name is a ValueError."""
    group, noun = f"nextlat_bench.{kind}", kind.removesuffix("s")
    if name in names(kind):
        return EntryPoint(name, f"{group}.{name}", group)
    if ":" in name:
        return EntryPoint(name, name, group)
    points = installed(kind)
    check_name(noun, name, list(dict.fromkeys((*names(kind), *points))))
    if len(points[name]) > 1:
        owners = " and ".join(_owner(point) for point in points[name])
        raise ValueError(
            f"{owners} each have a {noun} named {name!r}: "
            f"name one of them in full ({' or '.join(p.value for p in points[name])})"
        )
    return points[name][0]


def load(kind: Kind, name: str) -> Any:
    """The plugin itself. A built-in one is the one class in its module's `__all__` with a `name`.

    Presets have no class: their module is returned. A plugin of another distribution that cannot
    be imported, or is not what it should be, is a ValueError.
    """
    point = find(kind, name)
    if name not in names(kind):
        return _foreign(kind, point)
    module = importlib.import_module(point.value)
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


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _foreign(kind: Kind, point: EntryPoint) -> Any:
    """A plugin of another distribution, imported and checked."""
    who = f"{point.value} (of {_owner(point)})" if point.dist else point.value
    plugin = _imported(point.value, who)
    if kind == "presets":
        if not all(callable(getattr(plugin, part, None)) for part in ("run", "probes")):
            raise ValueError(f"{who} is no preset: it needs the functions run and probes")
        return plugin
    _check_class(kind, plugin, who)
    if point.dist and plugin.name != point.name:
        raise ValueError(
            f"{who} has the name {plugin.name!r}, its entry point {point.name!r}: "
            "make them the same"
        )
    return plugin


def expect_foreign(module: str) -> None:
    """Before somebody's own module is imported: it may lie in the current folder, which comes last
    and hides nothing installed, and what goes wrong in it is its own (`blamed`)."""
    if "" not in sys.path:
        sys.path.append("")
    FOREIGN.update({module.partition(".")[0]} - {"nextlat_bench"})


def _imported(value: str, who: str) -> Any:
    dotted = DOTTED.fullmatch(value)
    if not dotted:
        raise ValueError(f"{who}: expected package.module:Class")
    module, path = dotted.groups()
    expect_foreign(module)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise ValueError(
                f"{who}: there is no module {missing}; install the package that has it, "
                "or put its folder on PYTHONPATH"
            ) from error
        raise ValueError(
            f"{who} cannot be imported: {type(error).__name__}: {error}; mend or uninstall it"
        ) from error
    for part in path.split(".") if path else ():
        if not hasattr(found, part):
            classes = (value for value in vars(found).values() if inspect.isclass(value))
            own = [value.__name__ for value in classes if value.__module__ == module]
            check_name(f"class of {module}", part, own)
        found = getattr(found, part)
    return found


def _check_class(kind: Kind, plugin: Any, who: str) -> None:
    contract = importlib.import_module(f"nextlat_bench.{kind}._core")
    base = getattr(contract, kind.removesuffix("s").title())
    if not (inspect.isclass(plugin) and issubclass(plugin, base)):
        raise ValueError(
            f"{who} is no {base.__name__}: derive a class from {base.__module__}.{base.__name__}"
        )
    if not is_dataclass(plugin) or not plugin.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(f"{who} needs the decorator @dataclass(frozen=True, kw_only=True)")
    if lacking := sorted(plugin.__abstractmethods__):
        raise ValueError(f"{who} lacks {', '.join(lacking)}")
    bare = [f.name for f in fields(plugin) if f.default is f.default_factory is MISSING]
    if bare:
        raise ValueError(f"{who}: give {', '.join(bare)} a default")
    if (name := check_safe(plugin, who)) in names(kind):
        raise ValueError(f"{who}: {name!r} is built in; use that, or choose another name")
    if kind == "tasks":
        from nextlat_bench.report import contents  # a table of its own is called as it is

        if name in contents.names():
            raise ValueError(
                f"{who} has the name {name!r}, which another table has: choose another"
            )
    if kind == "probes":
        if name in TAKEN:
            raise ValueError(
                f"{who} has the name {name!r}, which a file of a run has: choose another"
            )
        metrics = getattr(plugin, "metrics", None)
        if not (
            isinstance(metrics, tuple)
            and metrics
            and all(isinstance(m, contract.Metric) for m in metrics)
        ):
            raise ValueError(
                f"{who} has no metrics: expected a tuple of {contract.__name__}.Metric"
            )


def blamed(error: BaseException, itself: bool = False) -> str | None:
    """Where in a plugin that did not come with the suite an error arose, if it did in one; with
    `itself`, not in what it called of the suite, which refused it with words of its own."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in FOREIGN:
            code = frame.f_code
            return f"{code.co_filename}, line {frame.f_lineno}, in {code.co_name}"
        if itself and package == "nextlat_bench":
            return None
    return None


def summary(kind: Kind, name: str) -> str:
    """The first line of a built-in plugin's docstring, read without importing it."""
    source = (_folder(kind) / f"{name}.py").read_text(encoding="utf-8")
    return _first_line(ast.get_docstring(ast.parse(source)))


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def entries(kind: Kind) -> Iterator[tuple[str, str]]:
    """Every plugin of a kind and a line on it. Those of other distributions are imported, and the
    line of a broken one says what is wrong."""
    for name in names(kind):
        yield name, summary(kind, name)
    for name, points in installed(kind).items():
        owners = ", ".join(_owner(point) for point in points)
        if name in names(kind):
            yield name, f"[{owners}] not used: this name is built in"
            continue
        try:
            line = _first_line(load(kind, name).__doc__)
        except ValueError as error:
            line = f"broken: {' '.join(str(error).split())}"
        yield name, f"[{owners}] {line}"


def parameters(plugin: Any) -> dict[str, Any]:
    """A plugin's fields as JSON values; a ValueError of one that JSON lacks.

    One marked `field(default=..., metadata={"later": True})` is left out at its default, so that
    ids and records from before it was added still stand.
    """
    if hasattr(plugin, "parameters"):
        found = dict(plugin.parameters())
    else:
        found = {f.name: getattr(plugin, f.name) for f in fields(plugin)}
    for f in fields(plugin):
        if f.metadata.get("later") and found.get(f.name) == f.default:
            found.pop(f.name, None)
    for name, value in found.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"{type(plugin).__name__}.{name} = {value!r}: no JSON can hold it; use numbers, "
                "texts, booleans, None, and lists and dicts of them"
            ) from None
    return found


def hints(plugin: type) -> dict[str, Any]:
    """The types of a plugin's fields; a ValueError where one was imported for checkers alone."""
    try:
        return get_type_hints(plugin)
    except NameError as error:
        raise ValueError(
            f"{plugin.__qualname__}: {error}; import the types of its fields where it runs, too"
        ) from None


def to_json(plugin: Any) -> dict[str, Any]:
    """{"name": ..., "parameters": {...}}: all that `from_json` needs to build an equal value.

    A plugin of another distribution goes by `package.module:Class`, however it was asked for: what
    is installed beside it changes neither its meaning nor the id of its run.
    """
    kind = type(plugin)
    if kind.__module__.startswith("nextlat_bench."):
        name = plugin.name
    elif kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise ValueError(f"{kind.__qualname__} cannot be loaded again: move it to a module")
    else:
        name = f"{kind.__module__}:{kind.__qualname__}"
    return {"name": name, "parameters": parameters(plugin)}


def from_json(kind: Kind, value: dict[str, Any]) -> Any:
    """Inverse of `to_json`. An unknown name or parameter is a ValueError."""
    check_kinds(value, kind.removesuffix("s"), name=str, parameters=dict)
    plugin = load(kind, value["name"])
    known = [f.name for f in fields(plugin)]
    for parameter in value["parameters"]:
        check_name(f"parameter of {value['name']}", parameter, known)
    lists = {name: each for name, each in value["parameters"].items() if isinstance(each, list)}
    kinds = hints(plugin) if lists else {}
    tuples = {  # JSON has lists alone
        name: tuple(each)
        for name, each in lists.items()
        if tuple in (kinds[name], get_origin(kinds[name]))
    }
    return plugin(**value["parameters"] | tuples)
