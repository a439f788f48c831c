"""The paper's claims and whether they hold here: verdicts computed from records by a stated rule.

claims.toml says what is asked of each claim; this module holds the rules. Values are those of the
tables, so that a verdict can be checked by eye.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from nextlat_bench.report.layouts import LAYOUTS, Column, label_of
from nextlat_bench.report.records import Facts
from nextlat_bench.report.statistics import Estimate, difference
from nextlat_bench.report.tables import Block, Row

__all__ = [
    "LACKING",
    "SEEDS",
    "US",
    "Claim",
    "Comparison",
    "claims",
    "judged",
    "trained",
]

HOLDS, IN_PART, NOT = "holds", "holds in part", "does not hold here"
NOT_TESTABLE, FEW, NOT_MEASURED = (
    "not testable at this scale",
    "not enough seeds",
    "not measured yet",
)
WON = ("ahead", "solved", "as fast")
LOST = ("not told apart", "behind", "not solved", "slower", "undecided")
BOTH_ENDS = "both at the end of the scale"
LACKING = ("too few seeds", "unequal budgets", "missing")
SEEDS = 3
US = "nextlat"
BUDGET = ("step", "growth", "training.examples", "training.row_length")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim as claims.toml declares it; the head of that file explains the fields."""

    name: str
    says: str
    table: str
    columns: tuple[str, ...]
    against: tuple[str, ...]
    differs: tuple[str, ...]
    rule: str = "ahead"
    paper_key: str | None = None
    horizon: int | None = None
    fixed_data: bool | None = None
    against_column: str | None = None
    least: float | None = None
    least_settings: int = 1
    floor: float | None = None
    ceiling: float | None = None
    benchmark: str = ""
    sides: tuple[str, ...] = ()
    within: float = 0.0

    def column(self, key: str) -> Column:
        found = LAYOUTS[self.table].columns if self.table in LAYOUTS else ()
        plain = Column(key, key.replace("_", " "), "", "", form=".2f")
        return next((column for column in found if column.key == key), plain)


NOBODY = Estimate()


@dataclass(frozen=True)
class Comparison:
    """One objective's value against another's; `its` None: against a number, or nobody's."""

    setting: str
    column: Column
    objective: str
    label: str
    cell: Estimate
    against: str
    its: Estimate | None
    outcome: str
    gap: Estimate = NOBODY


@cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order in which they are shown."""
    text = (resources.files("nextlat_bench.report") / "claims.toml").read_text("utf-8")
    rows = tomllib.loads(text)["claim"]
    lists: list[Facts] = [{k: tuple(v) for k, v in r.items() if isinstance(v, list)} for r in rows]
    return tuple(Claim(**row | its) for row, its in zip(rows, lists, strict=True))


def judged(
    claim: Claim, blocks: Sequence[Block], benchmarks: Mapping[str, Facts]
) -> tuple[str, list[Comparison]]:
    """The verdict and all the comparisons that it rests on. `blocks`: those of its table."""
    if claim.rule == "benchmark":
        compared = _timed(claim, benchmarks.get(claim.benchmark, {}))
        return _verdict(claim, compared), compared
    chosen = [block for block in blocks if _counts(claim, block)]
    if claim.rule == "solves":
        compared = [c for block in chosen for c in _solving(claim, block)]
        return _only(claim, compared), compared
    compared = [c for block in chosen for c in _ahead(claim, block)]
    return _verdict(claim, compared), compared


def trained(block: Block) -> bool:
    """Is anything of it measured, at a scale at which something is learnt?"""
    return bool(block.records) and block.facts["scale"] != "smoke"


def _counts(claim: Claim, block: Block) -> bool:
    fixed = block.facts.get("num_train") is not None
    return trained(block) and claim.fixed_data in (None, fixed)


# ---- who is compared


def _budget(row: Row) -> Facts:
    its = row.variant
    return {key: its[key] for key in its if key in BUDGET or key.startswith("decoder.")}


def _pair(claim: Claim, block: Block) -> tuple[Row | None, dict[str, tuple[Row | None, bool]]]:
    """NextLat's row, and each rival's with whether its budget is NextLat's."""

    def rows_of(objective: str) -> list[Row]:
        mine = [r for r in block.rows if (r.objective, r.source) == (objective, "measured")]
        mine = [r for r in mine if r.num_seeds]
        horizons = (None, claim.horizon)
        return [r for r in mine if not claim.horizon or r.variant.get("horizon") in horizons]

    ours = max(rows_of(US), key=lambda r: r.num_seeds, default=None)
    horizon = ours.variant.get("horizon") if ours else None
    rivals: dict[str, tuple[Row | None, bool]] = {}
    for name in claim.against:
        its = rows_of(name)
        equal = [r for r in its if not ours or _budget(r) == _budget(ours)]
        alike = [r for r in equal if r.variant.get("horizon") in (None, horizon)]
        best = max(alike or equal or its, key=lambda r: r.num_seeds, default=None)
        rivals[name] = best, bool(equal)
    return ours, rivals


def _side(claim: Claim, objective: str, row: Row | None, key: str) -> tuple[str, Estimate]:
    if row is None:
        return label_of(objective, ""), NOBODY
    keys = [column.key for column in LAYOUTS[claim.table].columns]
    horizon = row.variant.get("horizon")
    return label_of(objective, f"d={horizon}" if horizon else ""), row.cells[keys.index(key)]


# ---- the rules


def _ahead(claim: Claim, block: Block) -> list[Comparison]:
    """NextLat's value of each column against a number and against each rival's."""
    ours, rivals = _pair(claim, block)
    found = []
    for key in claim.columns:
        column = claim.column(key)
        higher = next((r.higher_is_better for r in block.records if column.shows(r)), True)
        label, cell = _side(claim, US, ours, key)
        if claim.least is not None:
            # a number is a side of whom nothing is missing
            bound = Estimate(claim.least, claim.least, claim.least, SEEDS)
            outcome, gap = _outcome(claim, cell, bound, bool(higher))
            where, words = (block.heading, column), f"at least {column.text(claim.least)}"
            found.append(Comparison(*where, US, label, cell, words, None, outcome, gap))
        for name, (row, equal) in rivals.items():
            who, its = _side(claim, name, row, claim.against_column or key)
            outcome, gap = _outcome(claim, cell, its, bool(higher))
            outcome = outcome if equal or not row else LACKING[1]
            where = block.heading, column
            found.append(Comparison(*where, US, label, cell, who, its, outcome, gap))
    return found


def _outcome(claim: Claim, ours: Estimate, its: Estimate, higher: bool) -> tuple[str, Estimate]:
    """The outcome, and the difference that it rests on."""
    gap = difference(ours, its)
    if not ours.num_seeds or not its.num_seeds:
        return "missing", gap
    if min(ours.num_seeds, its.num_seeds) < SEEDS or gap.low is None or gap.high is None:
        return "too few seeds", gap
    values = [float(side.value or 0.0) for side in (ours, its)]
    if claim.ceiling is not None and min(values) >= claim.ceiling:
        return BOTH_ENDS, gap
    if claim.floor is not None and max(values) <= claim.floor:
        return BOTH_ENDS, gap
    if gap.low <= 0 <= gap.high:
        return "not told apart", gap
    return ("ahead" if (gap.low > 0) == higher else "behind"), gap


def _solving(claim: Claim, block: Block) -> list[Comparison]:
    """Of each objective: is the graph solved, by every seed?"""
    ours, rivals = _pair(claim, block)
    (key,) = claim.columns
    found = []
    for name, (row, equal) in {US: (ours, True), **rivals}.items():
        label, cell = _side(claim, name, row, key)
        outcome = "solved" if cell.value == 100.0 else "not solved"
        if cell.num_seeds < SEEDS:
            outcome = "too few seeds" if cell.num_seeds else "missing"
        outcome = outcome if equal or not row else LACKING[1]
        column = claim.column(key)
        found.append(Comparison(block.heading, column, name, label, cell, "", None, outcome))
    return found


def _timed(claim: Claim, facts: Facts) -> list[Comparison]:
    """Times a step in units of the other side's, at each size that was measured."""
    one, other = claim.sides
    column = Column("", "Time of a step, times the other's", "", "", form=".2f")
    found = []
    for heading, sides in facts.items():
        its = sides.get(one, {}) if isinstance(sides, dict) else {}
        if not isinstance(its, dict) or its.get("ratio_to") != other:
            continue
        low, middle, high = its["ratio"]
        outcome = "slower" if low > 1 + claim.within else "undecided"
        outcome = "as fast" if high <= 1 + claim.within else outcome
        cell = Estimate(middle, low, high)
        found.append(Comparison(heading, column, US, one, cell, other, None, outcome))
    return found


def _counted(claim: Claim, compared: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons in settings with a complete one; none where these are too few."""
    complete = {c.setting for c in compared if c.outcome not in LACKING}
    enough = len(complete) >= claim.least_settings
    return [c for c in compared if enough and c.setting in complete]


def _without(compared: Sequence[Comparison]) -> str:
    """Why there is no verdict."""
    return FEW if any(c.outcome == "too few seeds" for c in compared) else NOT_MEASURED


def _verdict(claim: Claim, compared: Sequence[Comparison]) -> str:
    counted = _counted(claim, compared)
    outcomes = {c.outcome for c in counted}
    won, lost = outcomes & set(WON), outcomes & set(LOST)
    if won and lost:
        return IN_PART
    if not counted or outcomes & set(LACKING):
        return _without(compared)
    if not won and not lost:
        return NOT_TESTABLE
    return HOLDS if won else NOT


def _only(claim: Claim, compared: Sequence[Comparison]) -> str:
    counted = _counted(claim, compared)
    if not counted or any(c.outcome in LACKING for c in counted):
        return _without(compared)
    solved: dict[str, set[str]] = {}
    for c in counted:
        who = solved.setdefault(c.objective, set())
        who |= {c.setting} if c.outcome == "solved" else set()
    every = {c.setting for c in counted}
    ours = solved.pop(US)
    if all(its == ours for its in solved.values()) and ours in (set(), every):
        return NOT_TESTABLE
    if ours == every and every not in solved.values():
        return HOLDS
    return IN_PART if any(ours - its for its in solved.values()) else NOT
