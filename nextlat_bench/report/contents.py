"""All that `nextlat-bench report` shows, by name: the claims, the paper's tables, the probes' own
validity, and what the presets were chosen from."""

from collections.abc import Iterable

from nextlat_bench.registry import check_name
from nextlat_bench.report import choices, claims, tables, validity
from nextlat_bench.report.records import Record
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.shipped import committed_benchmarks, committed_choices, committed_known

__all__ = ["made", "names", "titles"]


def titles() -> dict[str, str]:
    """Name -> title of everything, in the order in which it is shown."""
    found = {name: tables.LAYOUTS[name].title for name in tables.names()}
    last = {"validity": validity.TITLE, "choices": choices.TITLE}
    return {"claims": claims.TITLE} | found | last


def names() -> list[str]:
    return list(titles())


def made(
    name: str, records: Iterable[Record], tried: Iterable[Record] | None = None
) -> "tables.Table | Sheet":
    """The named one of these records; an unknown name is a ValueError.

    `tried`: records of the validation split, for the choices; by default the committed ones.
    """
    check_name("table", name, names())
    if name == "claims":
        return claims.claims_sheet(records, committed_benchmarks())
    if name == "validity":
        return validity.validity_sheet(records, committed_known())
    if name == "choices":
        return choices.choices_sheet(committed_choices() if tried is None else tried)
    return tables.table(name, records)
