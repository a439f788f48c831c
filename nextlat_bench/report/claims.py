"""The table of the paper's claims: its figures, ours, and the verdicts of `verdicts`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from nextlat_bench.report.columns import DASH, LABELS, Column
from nextlat_bench.report.facts import Facts, say
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.published import paper_protocol, paper_rows
from nextlat_bench.report.records import Record, distinct
from nextlat_bench.report.sheets import Grid, Sheet
from nextlat_bench.report.statistics import Estimate
from nextlat_bench.report.tables import Block, blocks_of
from nextlat_bench.report.verdicts import (
    BOTH_ENDS,
    LACKING,
    LOST,
    OUTCOMES,
    SEEDS,
    US,
    WON,
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
    "wholly on the worse; else the two are not told apart. Neither side's standard error may be "
    "smaller than its trials imply, treating them as drawn anew for each seed. With a number (at "
    "least 95.0) its own interval is compared. No correction is made for multiple comparisons.",
    f"Each side needs {SEEDS} seeds and the same decoder, steps, examples and probe parameters. "
    "Settings that a validation grid tried and passed over do not count, once as many seeds of "
    "what it chose are measured; a task's only grid also speaks for graphs and maps on which none "
    "was made. If NextLat has several others, the one with most seeds is taken, "
    "then the one with the smallest horizon. A rival's are first restricted to NextLat's horizon, "
    "if it has that, then chosen in the same order. If several are still left there is no verdict.",
    "Rank and compression: a lead counts only where its routes are not behind in being legal or in "
    "arriving, since a model with a single state would lead in both.",
    "Holds: ahead in every comparison. Holds in part: ahead in some, behind in none. Mixed: ahead "
    "in some, behind in others. Does not hold here: behind in some, ahead in none. Undecided: "
    "neither, for want of seeds, trials or a difference. Incomplete: something is missing that can "
    "still change it. Smoke scale does not count, nor does a setting without one complete "
    "comparison.",
    "Seeds: those of one objective differ in their initial weights and in what the probes draw. "
    "Countdown's differ in their data, too; elsewhere all seeds read the same training examples in "
    "the same order, so that intervals over seeds leave out what other examples would change.",
    "Two sides that are both perfect, or both no better than chance, as the tables round them, say "
    "nothing; where nothing else is left, the claim is not testable at this scale.",
    "Only NextLat solves every graph (with the most training examples): holds if NextLat does and "
    "every rival fails one; in part if it solves one that some rival fails; not testable if all "
    "solve all, or none solves any. Data efficiency needs at least two training-set sizes.",
    "As fast: no round of the committed benchmark took longer than the margin allows; slower: each "
    "did; else undecided.",
)


def claims_sheet(records: Iterable[Record], benchmarks: Mapping[str, Facts]) -> Sheet:
    """The claims, their verdicts, and each comparison. `benchmarks`: facts of speed, by name."""
    rows = distinct(records)
    tables = dict.fromkeys(claim.table for claim in claims() if claim.table in LAYOUTS)
    blocks = {name: blocks_of(name, LAYOUTS[name], rows) for name in tables}
    brief = ("Claim", "Paper: NextLat; best other", "Here: NextLat; best other", "Verdict")
    head = ("Claim", "Paper", "Here", "Compared")
    sides = ("Who", "Value", "Against", "Its value")
    details = ("Claim", "Setting", "Measure", *sides, "Difference", "Outcome")
    columns = "claim verdict setting measure who value low high seeds against its_value its_low "
    columns += "its_high its_seeds difference difference_low difference_high outcome"
    lines: list[tuple[object, ...]] = [tuple(columns.split())]
    said, shown, every, notes = [], [], [], [*RULE]
    for claim in claims():
        verdict, compared = judged(claim, blocks.get(claim.table, []), benchmarks)
        theirs = _of_paper(claim)
        here = "\n".join(_here(claim, compared)) or DASH
        solves = claim.rule == "solves"
        why = _solved(compared) if solves else _counted(compared)
        score = "\n".join([verdict, *(why if solves else _score(claim, compared))])
        best = _best_of_paper(claim, theirs, compared), _best_here(claim, compared)
        said.append((claim.says, *best, score))
        shown.append((claim.name, _paper(claim, theirs), here, "\n".join(why) or DASH))
        notes += [f"{claim.name}: {text}." for text in (*claim.differs, *_bounds(claim))]
        for machine in dict.fromkeys(
            benchmarks.get(b, {}).get("machine") for b in claim.benchmarks
        ):
            notes += [f"{claim.name}: measured on {machine}."] * bool(machine)
        for c in compared:
            gap = _text(_finer(c.column, c.gap), replace(c.gap, num_seeds=0))
            its = (c.against or DASH, _text(c.column, c.its or Estimate()), gap, c.outcome)
            who = (c.label, _text(c.column, c.cell))
            every.append((claim.name, c.setting, c.column.heading, *who, *its))
            line = (claim.name, verdict, c.setting, c.column.heading, c.label, *_numbers(c.cell))
            its_numbers, gaps = _numbers(c.its or Estimate()), _numbers(c.gap)[:3]
            lines.append((*line, c.against, *its_numbers, *gaps, c.outcome))
        if not compared:
            lines.append((claim.name, verdict))
    grids = (
        Grid("Does it hold?", brief, tuple(said)),
        Grid("In full", head, tuple(shown)),
        Grid("Every comparison", details, tuple(every), detail=True),
    )
    return Sheet("claims", TITLE, grids, (*notes, *_sizes(blocks)), tuple(lines))


def _score(claim: Claim, compared: Sequence[Comparison]) -> list[str]:
    """How often NextLat is ahead, and how often behind, of how many; how many are missing."""
    made = [c.outcome for c in compared if c.outcome not in LACKING]
    if not made:
        return []
    words = ("as fast", "slower") if claim.rule == "benchmark" else ("ahead", "behind")
    counts = zip((WON, LOST), words, strict=True)
    said = [f"{sum(how in those for how in made)} {word}" for those, word in counts]
    missing = len(compared) - len(made)
    return [", ".join([*said, f"of {len(made)}"]) + f"; {missing} missing" * bool(missing)]


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


def _finer(column: Column, gap: Estimate) -> Column:
    """With one decimal more where a bound that is not zero would read as zero."""
    bounds = [bound for bound in (gap.low, gap.high) if bound]
    if all(float(column.text(bound)) for bound in bounds):
        return column
    return replace(column, form=f".{int(column.form[1:-1]) + 1}f")


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
    if claim.rule == "solves":
        where = "; ".join(dict.fromkeys(c.setting for c in compared))
        its = [f"{who} {said}" for who, (said, _) in _seeds(compared).items()]
        return [*its, f"seeds that solve {where}"]
    first = _first(compared)
    lines = {c.label: _text(c.column, c.cell) for c in first}
    lines |= {c.against: _text(c.column, c.its) for c in first if c.its}
    settings = {c.setting for c in compared}
    more = [f"{first[0].setting}; {len(settings)} settings"] if len(settings) > 1 else []
    return [f"{who} {text}" for who, text in lines.items()] + more


def _first(compared: Sequence[Comparison]) -> list[Comparison]:
    """Those of the first column in the setting that says most."""

    def weight(setting: str) -> tuple[int, int]:
        its = [c for c in compared if c.setting == setting]
        sides = [c.cell for c in its] + [c.its for c in its if c.its]
        values = sum(side.value is not None for side in sides)
        return sum(c.outcome not in (*LACKING, BOTH_ENDS) for c in its), values

    best = max(dict.fromkeys(c.setting for c in compared), key=weight)
    return [c for c in compared if c.setting == best and c.column == compared[0].column]


def _seeds(compared: Sequence[Comparison]) -> dict[str, tuple[str, int]]:
    """Who solves each graph with how many of their seeds, and with how many in all."""
    found: dict[str, tuple[str, int]] = {}
    for c in compared:
        seeds, before = c.cell.num_seeds, found.get(LABELS[c.objective])
        solved = round((c.cell.value or 0.0) * seeds / 100)
        said = f"{solved} of {seeds}" if seeds else DASH
        texts, total = before or ("", 0)
        found[LABELS[c.objective]] = f"{texts}, {said}" if before else said, total + solved
    return found


def _bounds(claim: Claim) -> list[str]:
    """The numbers that its rule has from claims.toml."""
    ends = {"chance up to": claim.floor, "perfect from": claim.ceiling}
    said = ", ".join(f"{what} {end:g}" for what, end in ends.items() if end is not None)
    within = [f"as fast is at most {claim.within:.0%} slower"] * (claim.within > 0)
    return [said] * bool(said) + within


def _of_paper(claim: Claim) -> dict[str, tuple[str, float]]:
    """Objective -> the paper's numbers, in the order of its table, and their mean."""
    key = claim.columns[0] if claim.paper_key is None else claim.paper_key
    text, found = claim.column(key).text, {}
    for name in (US, *claim.against):
        rows = paper_rows(claim.table, name, {})
        if claim.horizon:
            rows = [row for row in rows if row.get("horizon", claim.horizon) == claim.horizon]
        bounds = [row[f"{key}_above"] for row in rows if f"{key}_above" in row]
        values = [row[key] for row in rows if key in row]
        said = [*(f"> {text(bound)}" for bound in bounds), *map(text, values)]
        if said:
            found[name] = ", ".join(said), mean([*bounds, *values])
    return found


def _paper(claim: Claim, theirs: Mapping[str, tuple[str, float]]) -> str:
    """The paper's numbers of NextLat and its rivals, with their source."""
    texts = [f"{LABELS[name]} {said}" for name, (said, _) in theirs.items()]
    source = paper_protocol(claim.table)[0].removeprefix("Paper (").partition("): ")[0]
    return "\n".join([*texts, f"({source})"]) if texts else DASH


def _best(compared: Sequence[Comparison]) -> Callable[..., Any]:
    """Which of several is best: more or less, as records say."""
    return max if compared[0].higher else min


def _best_of_paper(
    claim: Claim, theirs: Mapping[str, tuple[str, float]], compared: Sequence[Comparison]
) -> str:
    """The paper's numbers of NextLat and, where we have any, of the best other."""
    if US not in theirs:
        return DASH
    said = "steps a second: " * (claim.rule == "benchmark") + theirs[US][0]
    others = [name for name in theirs if name != US]
    if not others or not compared:
        return said
    best = _best(compared)(others, key=lambda name: theirs[name][1])
    return f"{said}; {LABELS[best]} {theirs[best][0]}"


def _best_here(claim: Claim, compared: Sequence[Comparison]) -> str:
    """Ours of NextLat and of the best other, as `_first` chooses them."""
    if not compared:
        return DASH
    if claim.rule == "benchmark":
        values = sorted(c.cell.value or 0.0 for c in compared)
        ends = " to ".join(compared[0].column.text(value) for value in (values[0], values[-1]))
        return f"{compared[0].column.heading}: {ends} (rounds of a benchmark, no seeds)"
    if claim.rule == "solves":
        (_, (ours, _)), *others = _seeds(compared).items()
        who, (most, _) = max(others, key=lambda its: its[1][1])
        return f"{ours} seeds; {who} {most}"
    first = _first(compared)
    column, rivals = first[0].column, [c for c in first if c.its and c.its.value is not None]
    said = f"{column.heading}: {_text(column, first[0].cell)}"
    if not rivals:
        return said
    best = _best(first)(rivals, key=lambda c: c.its.value)
    return f"{said}; {best.against} {_text(column, best.its)}"


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
