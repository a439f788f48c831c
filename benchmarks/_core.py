"""Sides that do the same work by turns, and what they took."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Section", "alternate", "one_thread", "ratio", "shown", "spread", "write"]

FOLDER = Path(__file__).parents[1] / "results" / "rendered"


@dataclass
class Section:
    """A table of one benchmark; `facts` are the numbers behind it."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, *cells: str) -> None:
        self.rows.append(list(cells))

    def markdown(self) -> str:
        lines = [f"### {self.title}", ""]
        lines += ["| " + " | ".join(self.columns) + " |"]
        lines += ["|:--" + "|--:" * (len(self.columns) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(note + "\n" for note in self.notes)])


def alternate(
    sides: dict[str, Callable[[], object]], rounds: int, calls: int = 1
) -> dict[str, list[float]]:
    """Seconds a call of each side in each round, by the wall clock; in a round each has as many
    turns as `calls`, of which the median counts. The first turn of each is not timed.
    """
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(calls):
            order = list(sides.items())
            for name, side in order if (number + turn) % 2 == 0 else order[::-1]:
                begin = time.perf_counter()
                side()
                taken[name].append(time.perf_counter() - begin)
        for name, its in taken.items():
            seconds[name].append(median(its))
    return seconds


def ratio(of: list[float], to: list[float]) -> list[float]:
    """[lowest, median, highest] quotient within a round."""
    return spread(a / b for a, b in zip(of, to, strict=True))


def spread(values: Iterable[float]) -> list[float]:
    """[lowest, median, highest]."""
    ordered = sorted(values)
    return [ordered[0], median(ordered), ordered[-1]]


def shown(values: list[float], digits: int = 2) -> str:
    """median [lowest, highest] of `spread`."""
    low, middle, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} [{low}, {high}]"


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def machine() -> str:
    import torch

    from nextlat_bench.device import cpu_name

    return (
        f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def write(name: str, sections: list[Section]) -> str:
    """Leaves benchmark-NAME.md and .json with the committed results; returns the Markdown."""
    text = "\n".join([f"Measured on {machine()}.", "", *(s.markdown() for s in sections)])
    facts = {"machine": machine(), **{s.title: s.facts for s in sections}}
    (FOLDER / f"benchmark-{name}.md").write_text(text, encoding="utf-8")
    (FOLDER / f"benchmark-{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    return text
