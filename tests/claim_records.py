"""What the tests of claims share: made-up records, and what is read of a sheet."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from report_records import PATH_STAR, of, seeds

from nextlat_bench.report.claims import claims_sheet
from nextlat_bench.report.records import Record
from nextlat_bench.report.sheets import Sheet

RIVALS = ("gpt", "mtp", "jtp")
HIGH, MIDDLE, LOW = (0.98, 0.97, 0.99), (0.95, 0.97, 0.96), (0.90, 0.91, 0.92)
RANK = {"probe": "rank", "metric": "effective_rank", "higher_is_better": False}
BESIDE = ("legal", "reached")
COMPRESSION = {"probe": "compression", "metric": "precision"}


def sheet(records: Iterable[Record], **benchmarks: Mapping[str, Any]) -> Sheet:
    return claims_sheet(records, benchmarks)


def lines(made: Sheet, claim: str) -> list[dict[str, str]]:
    return [r for r in csv.DictReader(io.StringIO(made.csv())) if r["claim"] == claim]


def verdict(records: Iterable[Record], claim: str, **benchmarks: Mapping[str, Any]) -> str:
    [found] = {line["verdict"] for line in lines(sheet(records, **benchmarks), claim)}
    return found


def outcomes(records: Iterable[Record], claim: str) -> list[str]:
    return [line["outcome"] for line in lines(sheet(records), claim)]


def measured(ours: Any, **others: Any) -> list[Record]:
    """Compression, of NextLat and by name of others; a seed a value. All drive equally well."""
    found = []
    for name, values in {"nextlat": ours, **others}.items():
        found += driving(*values, **of(name, None if name in ("gpt", "bst") else 1))
    return found


def driving(*values: float, what: Any = COMPRESSION, legal: float = 0.9, **who: Any) -> Any:
    """These values of compression or of something else, and how well it drives."""
    found = seeds(*values, **who | what) if values else []
    for metric in BESIDE if values else ():
        found += seeds(*[legal] * len(values), **who, metric=metric)
    return found


STARS = (PATH_STAR, PATH_STAR | {"degree": 3, "length": 4})
ALL, NONE, ONE_FAILS = (1.0, 1.0, 0.97), (0.5, 0.5, 0.5), (1.0, 1.0, 0.5)


def stars(ours: Any, theirs: Any, graphs: Any = STARS, condition: str = "decode=greedy") -> Any:
    """Of each graph: the greedy paths of NextLat, and of each rival, that are right."""
    found = []
    for graph, mine, its in zip(graphs, ours, theirs, strict=True):
        probe = {"task": "path_star", "task_parameters": graph, "probe": "accuracy"}
        probe |= {"metric": "accuracy", "condition": condition}
        for name in ("nextlat", "gpt", "bst", "mtp", "jtp"):
            values = mine if name == "nextlat" else its
            who = of(name, 2 if name in ("nextlat", "mtp", "jtp") else None)
            found += seeds(*values, **probe, **who)
    return found
