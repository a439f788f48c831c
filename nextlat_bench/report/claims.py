"""The table of the paper's claims: its figures, ours, and the verdicts of `verdicts`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nextlat_bench.report.columns import DASH, LABELS, Column
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.published import paper_protocol, paper_rows
from nextlat_bench.report.records import Facts, Record, distinct, say
from nextlat_bench.report.sheets import Grid, Sheet
from nextlat_bench.report.statistics import Estimate
from nextlat_bench.report.tables import Block, blocks_of
from nextlat_bench.report.verdicts import (
    LACKING,
    OUTCOMES,
    SEEDS,
    US,
    Claim,
    Comparison,
    claims,
    judged,
    trained,
)

__all__ = ["TITLE", "claims_sheet"]

TITLE = "The paper's claims, put to the test"
RULE = (
    "Verdicts are computed from records. NextLat is ahead where the 95% interval of its mean over "
    "seeds less the other's (Welch's t) lies wholly on the better side of zero, and behind where "
    "wholly on the worse; else the two are not told apart. No side's standard error is taken as "
    "less than its trials give, as if drawn afresh for each seed. With a number (at least 95.0) "
    "its own interval is compared. No correction is made for how many comparisons there are.",
    f"Each side needs {SEEDS} seeds, the same decoder, as many steps of as many examples, and the "
    "same parameters of the probe. Of several settings of NextLat the one of most seeds "
    "counts, then of the least horizon; of a rival's those of NextLat's horizon, where there are "
    "any, and of these the one of most seeds, then of the least horizon; of those that are still "
    "alike none, and there is no verdict.",
    "Rank and compression: a lead counts only where its routes are not behind in being legal or in "
    "arriving, for a model of one state for everything would lead in both.",
    "Holds: ahead in every comparison. Holds in part: in some, whatever it is in the others, of "
    "which the counts tell. Does not hold here: ahead in none and behind in some. Undecided: not "
    "told apart from anybody, for want of seeds, of trials or of a difference. A verdict is given "
    "once nothing that is missing can change it. Smoke scale does not count, nor does a setting "
    "without one complete comparison.",
    "Seeds: those of one objective differ in their initial weights and in what the probes draw. "
    "Countdown's differ in their data, too; elsewhere all seeds read the same training examples in "
    "the same order, so that intervals over seeds leave out what other examples would change.",
    "Both sides at the end of the scale (all right, or at chance) say nothing; where nothing else "
    "is left, the claim is not testable at this scale.",
    "Only NextLat solves every graph, each as learnt from most examples: holds if it does and each "
    "other fails one; in part if it solves one that some other fails; not testable where all solve "
    "all or none any. Data efficiency: graphs learnt from at least two numbers of examples.",
    "As fast: no round of the committed benchmark took longer than the margin allows; slower: each "
    "did; else undecided.",
)


def claims_sheet(records: Iterable[Record], benchmarks: Mapping[str, Facts]) -> Sheet:
    """The claims, their verdicts, and each comparison. `benchmarks`: facts of speed, by name."""
    rows = distinct(records)
    tables = dict.fromkeys(claim.table for claim in claims() if claim.table in LAYOUTS)
    blocks = {name: blocks_of(name, LAYOUTS[name], rows) for name in tables}
    head = ("Claim", "Paper", "Here", "Verdict")
    sides = ("Who", "Value", "Against", "Its value")
    details = ("Claim", "Setting", "Measure", *sides, "Difference", "Outcome")
    columns = "claim verdict setting measure who value low high seeds against its_value its_low "
    columns += "its_high its_seeds difference difference_low difference_high outcome"
    lines: list[tuple[object, ...]] = [tuple(columns.split())]
    shown, every, notes = [], [], [*RULE]
    for claim in claims():
        verdict, compared = judged(claim, blocks.get(claim.table, []), benchmarks)
        here = "\n".join(_here(claim, compared)) or DASH
        why = _solved(compared) if claim.rule == "solves" else _counted(compared)
        shown.append((claim.says, _paper(claim), here, "\n".join([verdict, *why])))
        notes += [f"{claim.name}: {text}." for text in (*claim.differs, *_bounds(claim))]
        for machine in dict.fromkeys(
            benchmarks.get(b, {}).get("machine") for b in claim.benchmarks
        ):
            notes += [f"{claim.name}: measured on {machine}."] * bool(machine)
        for c in compared:
            gap = _text(c.column, replace(c.gap, num_seeds=0))
            its = (c.against or DASH, _text(c.column, c.its or Estimate()), gap, c.outcome)
            who = (c.label, _text(c.column, c.cell))
            every.append((claim.name, c.setting, c.column.heading, *who, *its))
            line = (claim.name, verdict, c.setting, c.column.heading, c.label, *_numbers(c.cell))
            its_numbers, gaps = _numbers(c.its or Estimate()), _numbers(c.gap)[:3]
            lines.append((*line, c.against, *its_numbers, *gaps, c.outcome))
        if not compared:
            lines.append((claim.name, verdict))
    grids = (
        Grid("Does it hold?", head, tuple(shown)),
        Grid("Every comparison", details, tuple(every), detail=True),
    )
    return Sheet("claims", TITLE, grids, (*notes, *_sizes(blocks)), tuple(lines))


def _counted(compared: Sequence[Comparison]) -> list[str]:
    """How many comparisons came out how, the best first; those that could not be made apart."""
    found = Counter(c.outcome for c in compared)
    made, lack = (
        ", ".join(f"{found[how]} {how}" for how in kinds if found[how])
        for kinds in (OUTCOMES, LACKING)
    )
    count = sum(found[how] for how in OUTCOMES)
    said = [f"{count} compared: {made}"] * bool(made) + [lack] * bool(lack)
    return ["; ".join(said)] if said else []


def _solved(compared: Sequence[Comparison]) -> list[str]:
    """Of how many graphs each solves, where every one of its runs is there."""
    if any(c.outcome in LACKING for c in compared):
        return _counted(compared)
    solved: Counter[str] = Counter()
    for c in compared:
        solved[LABELS[c.objective]] += c.outcome == "solved"
    said = ", ".join(f"{who} {n}" for who, n in solved.items())
    return [f"graphs solved, of {len({c.setting for c in compared})}: {said}"] if compared else []


def _numbers(cell: Estimate) -> tuple[float | int | None, ...]:
    return cell.value, cell.low, cell.high, cell.num_seeds or None


def _text(column: Column, cell: Estimate) -> str:
    """Value, interval and seeds, where there are any; a dash where there is none."""
    value, low, high = map(column.text, (cell.value, cell.low, cell.high))
    interval = "" if cell.low is None else f" [{low}, {high}]"
    seeds = f", {cell.num_seeds} seed{'s' * (cell.num_seeds > 1)}" if cell.num_seeds else ""
    return f"{value}{interval}{seeds}"


def _here(claim: Claim, compared: Sequence[Comparison]) -> list[str]:
    """The first column in the setting that says most; a benchmark's every size."""
    if not compared:
        return []
    if claim.rule == "benchmark":
        return [f"{_text(c.column, c.cell)}: {c.setting.partition(': ')[2]}" for c in compared]

    def weight(setting: str) -> tuple[int, int]:
        its = [c for c in compared if c.setting == setting]
        sides = [c.cell for c in its] + [c.its for c in its if c.its]
        values = sum(side.value is not None for side in sides)
        return sum(c.outcome not in LACKING for c in its), values

    settings = dict.fromkeys(c.setting for c in compared)
    best = max(settings, key=weight)
    first = [c for c in compared if c.setting == best and c.column == compared[0].column]
    lines = {c.label: _text(c.column, c.cell) for c in first}
    lines |= {c.against: _text(c.column, c.its) for c in first if c.its}
    more = [f"{best}; {len(settings)} settings"] if len(settings) > 1 else []
    return [f"{who} {text}" for who, text in lines.items()] + more


def _bounds(claim: Claim) -> list[str]:
    """The numbers that its rule has from claims.toml."""
    ends = [f"{end:g}" for end in (claim.floor, claim.ceiling) if end is not None]
    said = [f"the scale ends at {' and at '.join(ends)}"] if ends else []
    return said + [f"as fast is at most {claim.within:.0%} slower"] * (claim.within > 0)


def _paper(claim: Claim) -> str:
    """The paper's numbers of NextLat and its rivals, with their source."""
    key = claim.columns[0] if claim.paper_key is None else claim.paper_key
    column = claim.column(key)
    texts = []
    for name in (US, *claim.against):
        rows = paper_rows(claim.table, name, {})
        if claim.horizon:
            rows = [row for row in rows if row.get("horizon", claim.horizon) == claim.horizon]
        bounds = [f"> {row[f'{key}_above']}" for row in rows if f"{key}_above" in row]
        numbers = bounds + [column.text(row[key]) for row in rows if key in row]
        if numbers:
            texts.append(f"{LABELS[name]} {', '.join(numbers)}")
    source = paper_protocol(claim.table)[0].removeprefix("Paper (").partition("): ")[0]
    return "\n".join([*texts, f"({source})"]) if texts else DASH


def _sizes(blocks: Mapping[str, Sequence[Block]]) -> list[str]:
    """What was trained here and there, by table."""
    found = []
    for name in dict.fromkeys(claim.table for claim in claims()):
        for block in filter(trained, blocks.get(name, [])):
            models = [r for r in block.records if r.step > 0]
            steps = " or ".join(f"{step:,}" for step in sorted({r.step for r in models}))
            decoders = {", ".join(say(r.decoder, ("layers", "width"))) for r in models}
            if models:
                sizes = f"{steps} steps, {' or '.join(sorted(decoders))}"
                found.append(f"{name}: here {block.heading}: {sizes}.")
        found += [f"{name}: {text}" for text in paper_protocol(name)]
    return found
