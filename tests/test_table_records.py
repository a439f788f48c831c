"""Which records a column shows, where a probe ran in several ways, and how far an interval goes."""

from dataclasses import replace
from typing import Any

from report_records import TAXI, of, record, seeds

from nextlat_bench.report.columns import DASH
from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import table


def shown(name: str, heading: str, records: list[Record]) -> str:
    """NextLat's cell under this heading."""
    made = table(name, records)
    at = [column.heading for column in made.columns].index(heading)
    [row] = [r for r in made.rows if (r.objective, r.source) == ("nextlat", "measured")]
    return " ".join(made.lines(row)[at])


def test_a_rank_is_of_all_positions() -> None:
    def rank(value: float, positions: str) -> list[Record]:
        where: dict[str, Any] = {"probe": "rank", "metric": "effective_rank"}
        where |= {"probe_parameters": {"positions": positions}, "low": value, "high": value}
        return seeds(value, **where)

    both = [*rank(60.0, "all"), *rank(9.0, "scored")]
    assert shown("taxi", "Latent rank", both) == "60.0 [60.0, 60.0]"
    assert shown("taxi", "Latent rank", both[1:]) == DASH


def test_accepted_drafts_are_greedy_ones() -> None:
    where: dict[str, Any] = {"task": "language", "task_parameters": {}, "probe": "speculation"}
    where |= {"metric": "accepted", "condition": "draft=5,kind=code", "low": 0.1, "high": 9.0}
    drawn = record(**of("nextlat", 1) | where, value=1.5, probe_parameters={"sampled": True})
    greedy = record(**of("nextlat", 1) | where, value=2.5, probe_parameters={"sampled": False})
    # the paper's horizons have rows of their own
    made = table("speculation", [drawn])
    assert {cell.value for r in made.rows if r.source == "measured" for cell in r.cells} == {None}
    made = table("speculation", [drawn, greedy])
    values = {cell.value for r in made.rows if r.source == "measured" for cell in r.cells}
    assert values == {None, 2.5}


def test_no_share_is_above_one() -> None:
    """0.92 +- 12.7 standard errors of 0.02."""
    where = {"probe": "distinction", "metric": "precision"}
    records = seeds(0.9, 0.94, **where)
    assert shown("states", "Distinction, precision", records) == "0.92 [0.67, 1.00]"


def test_the_largest_scale_stands_first() -> None:
    records = [r for s in ("smoke", "laptop", "paper") for r in seeds(0.9, scale=s)]
    blocks = table("taxi", records).blocks(seeds=False)
    assert [heading.split()[0] for heading in blocks] == ["paper", "laptop", "smoke"]


def test_who_has_no_value_has_no_row_of_its_own() -> None:
    for value, rows in ((None, 0), (0.5, 1)):
        made = table("taxi", [*seeds(0.9), *seeds(value, objective="mine")])
        assert sum(r.source == "measured" and r.objective == "mine" for r in made.rows) == rows


def test_what_a_record_lacks_is_none() -> None:
    """A field that came later, with None as its default: one row, and one block."""
    later = {"training": {"steps": 2000, "learning_rate": 0.003, "clip": None}}
    later |= {"task_parameters": TAXI | {"num_train": None}}
    old, new = seeds(0.5, 0.6), seeds(0.7, 0.8, **later)
    new = [replace(r, seed=r.seed + 2) for r in new]
    for records in ([*old, *new], [*new, *old]):
        made = table("taxi", records)
        [row] = [r for r in made.rows if (r.objective, r.source) == ("nextlat", "measured")]
        assert row.num_seeds == 4
