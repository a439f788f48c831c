"""The paper's numbers, which stand beside the measured ones: published.toml."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from nextlat_bench.report.facts import Facts

__all__ = ["paper_protocol", "paper_rows", "published"]


@cache
def published() -> dict[str, Any]:
    """The paper's numbers, by table."""
    text = (resources.files("nextlat_bench.report") / "published.toml").read_text("utf-8")
    return tomllib.loads(text)


def paper_rows(name: str, objective: str | None, where: Facts) -> list[Facts]:
    """The paper's rows of one objective (None: of all) that agree with `where` in whatever of it
    they name; each with the settings that the whole table shares."""
    paper = published().get(name, {})
    rows = [paper.get("setting", {}) | row for row in paper.get("rows", [])]
    return [
        row
        for row in rows
        if objective in (None, row["objective"])
        and all(row.get(key, value) == value for key, value in where.items())
    ]


def paper_protocol(name: str) -> list[str]:
    """How the paper measured, in sentences that name the source and whether it is a figure; none of
    a table that the paper does not have."""
    if name not in published():
        return []
    paper = published()[name]
    source = f"Paper ({paper['source']}{', read off a figure' if paper['digitised'] else ''})"
    return [f"{source}: {text}." for text in paper["protocol"]]
