"""Facts, what tells settings and models apart: flat dictionaries, grouped by and named."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeAlias, TypeVar

from nextlat_bench.files import visible

__all__ = ["CURRICULUM", "Facts", "Keyed", "brief", "differing", "flat", "grouped", "say"]
__all__ += ["number", "told_apart"]

T = TypeVar("T")
CURRICULUM = ("growth",)  # parameters of tasks that shape the training alone
Facts: TypeAlias = dict[str, Any]


class Keyed(Facts):
    """Facts that many a table asks for, and their text, which is made once."""

    @cached_property
    def text(self) -> str:
        return _text(self)


def _text(facts: Facts) -> str:
    """Of equal facts the same. None is what is lacked, as where a field came later, at None."""
    known = {key: value for key, value in facts.items() if value is not None}
    return json.dumps(known, sort_keys=True)


def number(facts: Mapping[str, Any], key: str) -> int | float | None:
    """A fact to reckon with; where it is not one number, as another's own parameter of the same
    name may be, None."""
    value = facts.get(key)
    return value if type(value) in (int, float) else None


def flat(parameters: Mapping[str, Any], prefix: str = "") -> Facts:
    """Nested parameters under dotted names."""
    found: Facts = {}
    for key, value in parameters.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def grouped(items: Iterable[T], facts: Callable[[T], Facts]) -> list[tuple[Facts, list[T]]]:
    """Items that share their facts, together; groups in the order in which they first occur, with
    the facts of the first."""
    found: dict[str, tuple[Facts, list[T]]] = {}
    for item in items:
        fact = facts(item)
        text = fact.text if isinstance(fact, Keyed) else _text(fact)
        found.setdefault(text, (fact, []))[1].append(item)
    return list(found.values())


def say(facts: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """key=value for each; of a digest its first 12 digits."""
    return [
        visible(f"{key}={str(facts.get(key, 'none'))[: 12 if key.endswith('digest') else None]}")
        for key in keys
    ]


def brief(value: Any) -> Any:
    """Of a file's path its name, since a folder says nothing of what was measured."""
    if not isinstance(value, str):
        return value
    if re.match(r"[A-Za-z]:[\\/]|\.{0,2}\\", value):  # as Windows names one
        return PureWindowsPath(value).name
    return PurePosixPath(value).name if value.startswith(("/", "./", "../")) else value


def told_apart(
    facts: Sequence[Facts], always: Mapping[str, str], briefly: bool = False
) -> list[str]:
    """A text for each: what is always named (key -> format of its value {} and of any {other};
    "" names nothing) and, where two would be the same, all else in which they differ; `briefly`
    as few of these as tell them apart, an objective's own parameters first, without "training."
    and "decoder.", whose fields a record lacks where they came later, at their defaults."""
    named = {key: how for key, how in always.items() if how}
    base = [
        [_formatted(how, f, key) for key, how in named.items() if f.get(key) is not None]
        for f in facts
    ]
    texts = []
    for mine, fact in zip(base, facts, strict=True):
        alike = [other for its, other in zip(base, facts, strict=True) if its == mine]
        keys = differing(alike)
        if briefly:
            keys.sort(key=lambda key: "." in key or key in ("step", *CURRICULUM))
            keys = _fewest(alike, keys)
            said = say(fact, [key for key in keys if key in fact or "." not in key])
            said = [text.removeprefix("training.").removeprefix("decoder.") for text in said]
        else:
            said = say(fact, keys)
        texts.append(", ".join(mine + said))
    return texts


def _formatted(how: str, facts: Facts, key: str) -> str:
    try:
        return visible(how.format(brief(facts[key]), **facts))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"records with {key} = {facts[key]!r} cannot be named ({said})") from None


def differing(facts: Sequence[Facts]) -> list[str]:
    """The keys, in order, of which not all have the same value."""
    keys = sorted({key for fact in facts for key in fact})
    return [key for key in keys if _kinds(facts, [key]) > 1]


def _kinds(facts: Sequence[Facts], keys: Sequence[str]) -> int:
    """How many different ones there are, by these keys."""
    return len({json.dumps([fact.get(key) for key in keys]) for fact in facts})


def _fewest(facts: Sequence[Facts], keys: Sequence[str]) -> list[str]:
    """The first key that leaves most of them different, and so on until all are that can be."""
    chosen: list[str] = []
    while _kinds(facts, chosen) < _kinds(facts, keys):
        chosen.append(max(keys, key=lambda key: _kinds(facts, [*chosen, key])))
    return chosen
