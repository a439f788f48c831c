"""All that `nextlat-bench report` shows, by name: the claims, the paper's tables, the probes' own
validity."""

from collections.abc import Iterable

from nextlat_bench.registry import check_name
from nextlat_bench.report import claims, tables
from nextlat_bench.report.benchmarks import committed_benchmarks
from nextlat_bench.report.records import Record
from nextlat_bench.report.sheets import Sheet

__all__ = ["made", "names", "titles"]


def titles() -> dict[str, str]:
    """Name -> title of everything, in the order in which it is shown."""
    return {"claims": claims.TITLE} | {name: tables.LAYOUTS[name].title for name in tables.names()}


def names() -> list[str]:
    return list(titles())


def made(name: str, records: Iterable[Record]) -> "tables.Table | Sheet":
    """The named one of these records; an unknown name is a ValueError."""
    check_name("table", name, names())
    if name == "claims":
        return claims.claims_sheet(records, committed_benchmarks())
    return tables.table(name, records)
