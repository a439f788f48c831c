"""The paper's claims and whether they hold here: verdicts computed from records by a stated rule.

claims.toml says what is asked of each claim; this module holds the rules. Values are those of the
tables, so that a verdict can be checked by eye.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import inf

from nextlat_bench.report.columns import Column, label_of
from nextlat_bench.report.facts import Facts, grouped, number
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.statistics import Estimate, difference
from nextlat_bench.report.tables import Block, Row

__all__ = [
    "BOTH_ENDS",
    "LACKING",
    "LOST",
    "OUTCOMES",
    "SEEDS",
    "US",
    "WON",
    "Claim",
    "Comparison",
    "claims",
    "judged",
    "trained",
]

HOLDS, IN_PART, MIXED, NOT = "holds", "holds in part", "mixed", "does not hold here"
UNDECIDED = "undecided"
NOT_TESTABLE, FEW = "not testable at this scale", "not enough seeds"
NOT_MEASURED, INCOMPLETE = "not measured yet", "incomplete"
WON = ("ahead", "solved", "as fast")
WORSE = "ahead, but it behaves worse"
LOST = ("behind", WORSE, "not solved", "slower")
OPEN = ("not told apart", "undecided")
BOTH_ENDS = "both perfect, or no better than chance"
MISSING, TOO_FEW, UNEQUAL = "missing", "too few seeds", "unequal budgets"
SEVERAL, ELSEWISE = "several settings", "unequal protocols"
OUTCOMES = (*WON, *OPEN, BOTH_ENDS, *LOST)
LACKING = (MISSING, TOO_FEW, UNEQUAL, SEVERAL, ELSEWISE)
SEEDS = 3
US = "nextlat"
SIZE = "num_train"
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
    beside: tuple[str, ...] = ()
    rule: str = "ahead"
    paper_key: str | None = None
    horizon: int | None = None
    fixed_data: bool = False
    against_column: str | None = None
    least: float | None = None
    least_settings: int = 1
    floor: float | None = None
    ceiling: float | None = None
    benchmarks: tuple[str, ...] = ()
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
    higher: bool = True  # is better


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
        compared = [c for name in claim.benchmarks for c in _timed(claim, benchmarks.get(name, {}))]
        return _verdict(claim, compared), compared
    chosen = _chosen(claim, [block for block in blocks if trained(block)])
    if claim.rule == "solves":
        compared = [c for block in chosen for c in _solving(claim, block)]
        return _only(claim, compared), compared
    compared = [c for block in chosen for c in _ahead(claim, block)]
    return _verdict(claim, compared), compared


def trained(block: Block) -> bool:
    """Is anything of it measured, at a scale at which something is learnt?"""
    return bool(block.records) and block.facts["scale"] != "smoke"


def _chosen(claim: Claim, blocks: Sequence[Block]) -> list[Block]:
    """Of data efficiency all sizes of what is fixed for training in at least two; of solving, each
    graph where it is learnt from most."""
    chosen = []
    for _, group in grouped(blocks, lambda b: {k: b.facts[k] for k in b.facts if k != SIZE}):
        fixed = [block for block in group if block.facts.get(SIZE) is not None]
        if claim.rule == "solves":  # drawn afresh is most of all
            most = max(number(block.facts, SIZE) or inf for block in group)
            chosen += [b for b in group if (number(b.facts, SIZE) or inf) == most]
        elif claim.fixed_data:
            chosen += fixed if len({block.facts[SIZE] for block in fixed}) > 1 else []
        else:
            chosen += group
    return chosen


# ---- who is compared


@dataclass(frozen=True)
class Side:
    """One objective's cell; `lacking`: why it cannot be compared, of LACKING."""

    label: str
    cell: Estimate
    protocol: str
    lacking: str


def _budget(row: Row) -> Facts:
    its = row.variant
    known = [key for key in its if its[key] is not None]  # a field that came later, at None
    return {key: its[key] for key in known if key in BUDGET or key.startswith("decoder.")}


def _sides(claim: Claim, block: Block, key: str, lead: str = "") -> dict[str, Side]:
    """NextLat's side, then each rival's, in one column: of most seeds, then of the least horizon.
    A rival's is of NextLat's budget and, if it can be, of NextLat's horizon. `lead`: the column
    whose seeds count, where it is another one: what stands beside a lead is of the same models."""

    def rows_of(objective: str) -> list[Row]:
        mine = [r for r in block.rows if (r.objective, r.source) == (objective, "measured")]
        mine = [r for r in mine if r.num_seeds]
        horizons = (None, claim.horizon)
        return [r for r in mine if not claim.horizon or r.variant.get("horizon") in horizons]

    found = {US: _side(claim, US, rows_of(US), key, lead or key)}
    ours = _first(claim, rows_of(US), lead or key)
    where = key if key in claim.beside else claim.against_column or key
    for name in claim.against:
        its = rows_of(name)
        equal = [r for r in its if not ours or _budget(r) == _budget(ours)]
        alike = [r for r in equal if not ours or _horizon(r) in (0, _horizon(ours))]
        side = _side(claim, name, alike or equal or its, where, lead or where)
        if its and not equal:
            side = replace(side, lacking=UNEQUAL)
        elif not side.lacking and side.protocol != found[US].protocol:
            side = replace(side, lacking=ELSEWISE)
        found[name] = side
    return found


def _index(claim: Claim, key: str) -> int:
    return [column.key for column in LAYOUTS[claim.table].columns].index(key)


def _horizon(row: Row) -> float:
    return number(row.variant, "horizon") or 0


def _first(claim: Claim, rows: Sequence[Row], key: str) -> Row | None:
    at = _index(claim, key)
    return min(rows, key=lambda r: (-r.cells[at].num_seeds, _horizon(r)), default=None)


def _side(claim: Claim, name: str, rows: Sequence[Row], key: str, lead: str) -> Side:
    row = _first(claim, rows, lead)
    if row is None:
        return Side(label_of(name, ""), NOBODY, "", MISSING)
    at, by, horizon = _index(claim, key), _index(claim, lead), _horizon(row)
    most, seeds = row.cells[by].num_seeds, row.cells[at].num_seeds
    ties = [r for r in rows if (r.cells[by].num_seeds, _horizon(r)) == (most, horizon)]
    lacking = SEVERAL if len(ties) > 1 else ""
    if seeds < SEEDS:
        lacking = TOO_FEW if seeds else MISSING
    label = label_of(name, f"d={horizon}" if horizon else "")
    return Side(label, row.cells[at], row.protocols[at], lacking)


# ---- the rules


def _ahead(claim: Claim, block: Block) -> list[Comparison]:
    """NextLat's value of each column against a number and against each rival's."""
    found = []
    for key in claim.columns:
        column, sides = claim.column(key), _sides(claim, block, key)
        beside = {other: _sides(claim, block, other, key) for other in claim.beside}
        ours, higher = sides.pop(US), _higher(block, column)
        where = block.heading, column, US, ours.label, ours.cell
        if claim.least is not None:
            # a number is a side of whom nothing is missing
            bound = Estimate(claim.least, claim.least, claim.least, SEEDS)
            its = Side(f"at least {column.text(claim.least)}", bound, ours.protocol, "")
            outcome, gap = _outcome(claim, block, key, ours, its)
            found.append(Comparison(*where, its.label, None, outcome, gap, higher))
        for name, its in sides.items():
            outcome, gap = _outcome(claim, block, key, ours, its)
            if outcome == "ahead":
                others = [
                    _outcome(claim, block, other, both[US], both[name])[0]
                    for other, both in beside.items()
                ]
                spoilt = [WORSE if it == "behind" else it for it in others]
                outcome = next((it for it in spoilt if it in (WORSE, *LACKING)), outcome)
            found.append(Comparison(*where, its.label, its.cell, outcome, gap, higher))
    return found


def _higher(block: Block, column: Column) -> bool:
    """Is more of it better?"""
    return bool(next((r.higher_is_better for r in block.records if column.shows(r)), True))


def _outcome(claim: Claim, block: Block, key: str, ours: Side, its: Side) -> tuple[str, Estimate]:
    """The outcome, and the difference that it rests on."""
    column, gap = claim.column(key), difference(ours.cell, its.cell)
    if lacking := min(filter(None, (ours.lacking, its.lacking)), key=LACKING.index, default=""):
        return lacking, gap
    if gap.low is None or gap.high is None:
        return TOO_FEW, gap
    values = [float(column.text(side.cell.value or 0.0)) for side in (ours, its)]  # as tables say
    if key in claim.columns:
        if claim.ceiling is not None and min(values) >= claim.ceiling:
            return BOTH_ENDS, gap
        if claim.floor is not None and max(values) <= claim.floor:
            return BOTH_ENDS, gap
    if gap.low <= 0 <= gap.high:
        return "not told apart", gap
    return ("ahead" if (gap.low > 0) == _higher(block, column) else "behind"), gap


def _solving(claim: Claim, block: Block) -> list[Comparison]:
    """Of each objective: is the graph solved, by every seed?"""
    (key,) = claim.columns
    found = []
    for name, side in _sides(claim, block, key).items():
        outcome = side.lacking or ("solved" if side.cell.value == 100.0 else "not solved")
        column = claim.column(key)
        found.append(
            Comparison(block.heading, column, name, side.label, side.cell, "", None, outcome)
        )
    return found


def _timed(claim: Claim, facts: Facts) -> list[Comparison]:
    """Times a step in units of the other side's, at each size that was measured."""
    one, other = (side.lower() for side in claim.sides)  # as some benchmarks write them
    column = Column("", f"Step time relative to {claim.sides[1]}'s", "", "", form=".2f")
    found = []
    for heading, sides in facts.items():
        named = {who.lower(): its for who, its in sides.items()} if isinstance(sides, dict) else {}
        its = named.get(one)
        if not isinstance(its, dict) or "ratio" not in its:
            continue
        if its.get("ratio_to", other).lower() != other:
            continue
        low, middle, high = its["ratio"]
        outcome = "slower" if low > 1 + claim.within else "undecided"
        outcome = "as fast" if high <= 1 + claim.within else outcome
        cell = Estimate(middle, low, high)
        who, against = claim.sides
        found.append(Comparison(heading, column, US, who, cell, against, None, outcome))
    return found


def _counted(claim: Claim, compared: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons in settings with a complete one; none where these are too few."""
    complete = {c.setting for c in compared if c.outcome not in LACKING}
    enough = len(complete) >= claim.least_settings
    return [c for c in compared if enough and c.setting in complete]


def _without(compared: Sequence[Comparison]) -> str:
    """Why there is no verdict."""
    if any(c.outcome == TOO_FEW for c in compared):
        return FEW
    return INCOMPLETE if any(c.outcome not in LACKING for c in compared) else NOT_MEASURED


def _verdict(claim: Claim, compared: Sequence[Comparison]) -> str:
    counted = _counted(claim, compared)
    outcomes = {c.outcome for c in counted}
    won, lost, open_ = (outcomes & set(some) for some in (WON, LOST, OPEN))
    if won and lost:
        return MIXED
    if won and open_ and not outcomes & set(LACKING):
        return IN_PART
    if not counted or outcomes & set(LACKING):
        return _without(compared)
    if won:
        return HOLDS
    if lost:
        return NOT
    return UNDECIDED if open_ else NOT_TESTABLE


def _only(claim: Claim, compared: Sequence[Comparison]) -> str:
    counted = _counted(claim, compared)
    solved: dict[str, set[str]] = {}
    failed: dict[str, set[str]] = {}
    for c in counted:
        for some, outcome in ((solved, "solved"), (failed, "not solved")):
            some.setdefault(c.objective, set()).update([c.setting] * (c.outcome == outcome))
    ours, fails = solved.pop(US, set()), failed.pop(US, set())
    leads = any(ours & its for its in failed.values())
    if leads and fails:
        return IN_PART  # whatever is missing
    if not counted or any(c.outcome in LACKING for c in counted):
        return _without(compared)
    every = {c.setting for c in counted}
    if all(its == ours for its in solved.values()) and ours in (set(), every):
        return NOT_TESTABLE
    if ours == every and every not in solved.values():
        return HOLDS
    return IN_PART if leads else NOT
