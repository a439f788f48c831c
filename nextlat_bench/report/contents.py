"""All that `nextlat-bench report` shows, by name: the claims, the paper's tables, the probes' own
validity, and what the presets were chosen from."""

from collections.abc import Iterable, Sequence

from nextlat_bench.registry import check_name
from nextlat_bench.report import choices, claims, tables, validity
from nextlat_bench.report.layouts import layout_of
from nextlat_bench.report.records import Record, listed
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.shipped import committed_benchmarks, committed_choices, committed_known

__all__ = ["made", "names", "settled", "titles"]


def titles(records: Sequence[Record] = ()) -> dict[str, str]:
    """Name -> title of everything, in the order in which it is shown; a table of each task of one's
    own that is in the records."""
    found = {name: layout_of(name, records).title for name in tables.names(records)}
    last = {"validity": validity.TITLE, "choices": choices.TITLE}
    return {"claims": claims.TITLE} | found | last


def names(records: Sequence[Record] = ()) -> list[str]:
    return list(titles(records))


def made(
    name: str, records: Iterable[Record], tried: Iterable[Record] | None = None
) -> "tables.Table | Sheet":
    """The named one of these records; an unknown name is a ValueError.

    `tried`: records of the validation split, for the choices; by default the committed ones.
    """
    records = listed(records)
    check_name("table", name, names(records))
    if name == "claims":
        return claims.claims_sheet(settled(records, tried), committed_benchmarks())
    if name == "validity":
        return validity.validity_sheet(records, committed_known())
    if name == "choices":
        return choices.choices_sheet(_grid(tried))
    return tables.table(name, records)


def settled(records: Iterable[Record], tried: Iterable[Record] | None = None) -> list[Record]:
    """Without settings that a grid passed over, in verdicts and figures; tables have all."""
    return choices.as_chosen(records, _grid(tried))


def _grid(tried: Iterable[Record] | None) -> Iterable[Record]:
    return committed_choices() if tried is None else tried
