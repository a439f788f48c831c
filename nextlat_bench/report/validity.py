"""Are the probes to be trusted? Each on models whose answer is known, and beside what published
scripts read.

known.toml holds the known answers. A reading passes where it is what must come out.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from math import nan
from typing import Any, TypeAlias

from nextlat_bench.report.columns import DASH, REFERENCES, Column, Layout
from nextlat_bench.report.facts import Facts, grouped, number
from nextlat_bench.report.layouts import DETOUR, GREEDY, LAYOUTS, compression, countdown, rank
from nextlat_bench.report.records import Record, distinct, one_protocol
from nextlat_bench.report.sheets import Grid, Sheet
from nextlat_bench.report.tables import blocks_of, fewer, grid_of

__all__ = ["TITLE", "Reading", "known_records", "readings", "validity_sheet"]

TITLE = "The probes' own validity"
Line: TypeAlias = tuple[object, ...]  # of CSV
NEAR = 0.05  # of the true world model's value
NOTES = (
    "In brackets, what must come out: a number, exactly where it is 0 or 1, else within twice the "
    "probe's 95% interval; < or > clearly below or above the true world model (oracle), the two "
    f"intervals apart; = within {NEAR} of it, and neither; – no value at all. What fails says so. "  # noqa: RUF001
    "Without brackets nothing is known beforehand.",
    "The subjects are models that are written down instead of trained (`nextlat-bench list "
    "subjects`); where one passes for the true world model, that is what the probe cannot see. "
    "Measured by `python scripts/validity.py`, at laptop scale.",
    "Published readings: scores by the public scripts beside the definition's, for trained models; "
    "means over seeds with their intervals, and a dash where a model was not asked.",
    "Not here: state_probe, since no subject has both a world and hidden states; spectrum, which "
    "has no one number; lookahead, perplexity, speculation and speculation_speed, which ask for a "
    "trained model or for text.",
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number of one probe, and its known answers by subject; known.toml explains them."""

    task: str
    probe: str
    metric: str
    label: str
    known: dict[str, Any]
    condition: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    because: str = ""

    @property
    def column(self) -> Column:
        where = (self.probe, self.metric, (self.condition,), self.parameters)
        return Column("", self.label, *where, form=".3g")


@cache
def readings() -> tuple[Reading, ...]:
    """All readings whose answers are known, in the order in which they are shown."""
    text = (resources.files("nextlat_bench.report") / "known.toml").read_text("utf-8")
    return tuple(Reading(**row) for row in tomllib.loads(text)["reading"])


def known_records(records: Iterable[Record]) -> list[Record]:
    """Those that the matrices are made of."""
    return [
        record
        for record in records
        if any(
            record.task == reading.task
            and record.objective in (*reading.known, "oracle")
            and reading.column.shows(record)
            for reading in readings()
        )
    ]


def validity_sheet(records: Iterable[Record], known: Iterable[Record] = ()) -> Sheet:
    """A matrix of subjects and readings for each setting; below, the published readings of trained
    models. `known`: records of the subjects, where `records` hold of the oracle's alone."""
    rows = distinct(records)
    own = known_records(rows)
    impostors = any(r.objective not in REFERENCES for r in own)
    asked = own if impostors else known_records(distinct(known))
    lines: list[Line] = []
    grids, notes = [], [*NOTES]
    for task in dict.fromkeys(reading.task for reading in readings()):
        blocks = grouped((r for r in asked if r.task == task), lambda r: r.setting)
        blocks = [block for block in blocks if {r.objective for r in block[1]} - {*REFERENCES}]
        titles = LAYOUTS[task].headings([facts for facts, _ in blocks])
        for title, (_, group) in zip(titles, blocks, strict=True):
            its = [r for r in readings() if r.task == task]
            grid, found = _matrix(f"{task}, {title}", its, group)
            grids.append(grid)
            lines += found
        because = [f"{r.label}: {r.because}" for r in readings() if r.task == task and r.because]
        notes += [f"{task}, {text}." for text in because if blocks]
    passed = sum(line[-1] == "yes" for line in lines)
    failed = sum(line[-1] == "no" for line in lines)
    share = f"{passed} of {passed + failed} readings are what must come out."
    if not passed + failed:
        share = "Nothing here can be judged: probe the oracle on the same task, too."
    notes.insert(0, share if lines else "Nothing is measured yet of models whose answer is known.")
    published, more, remarks = _published(rows)
    header = ["setting", "reading", "subject", "value", "low", "high", "n", "known", "as_known"]
    return Sheet(
        "validity",
        TITLE,
        (*grids, *published),
        (*notes, *remarks),
        (tuple(header), *lines, *more),
    )


def _matrix(
    title: str, its: Sequence[Reading], records: Sequence[Record]
) -> tuple[Grid, list[Line]]:
    """Readings down, subjects across; and a line of CSV for each cell with a record."""
    subjects = list(dict.fromkeys(name for reading in its for name in ("oracle", *reading.known)))
    subjects = [name for name in subjects if any(r.objective == name for r in records)]
    rows: list[tuple[str, ...]] = []
    lines: list[Line] = []
    for reading in its:
        shown = [r for r in records if reading.column.shows(r)]
        chosen = [one_protocol(r for r in shown if r.objective == name) for name in subjects]
        found = {name: next(iter(some), None) for name, some in zip(subjects, chosen, strict=True)}
        cells = []
        for name, record in found.items():
            if record is None:
                cells.append(DASH)
                continue
            known = reading.known.get(name)
            right = passes(known, record, found.get("oracle"))
            value = DASH if record.value is None else reading.column.text(record.value)
            must = _say(known, record.task_parameters)
            remark = f"({must}){'' if right else ' FAILS'}" if right is not None else ""
            cells.append("\n".join(filter(None, (value, remark))))
            numbers = (record.value, record.low, record.high, record.n)
            verdict = "" if right is None else "yes" if right else "no"
            lines.append((title, reading.label, name, *numbers, must, verdict))
        rows.append((reading.label, *cells))
    head = ("reading", *(name.replace("_", " ") for name in subjects))
    return Grid(title, head, tuple(rows), numbers=True), lines


def _say(known: Any, parameters: Facts) -> str:
    """The known answer, in numbers where it is one."""
    if isinstance(known, list):
        return f"{known[0]} to {known[1]}"
    if known is None or known in ("<", ">", "="):
        return known or ""
    return DASH if known == "-" else format(_number(known, parameters), ".3g")


def passes(known: Any, record: Record, truth: Record | None) -> bool | None:
    """Is it what must come out? None: nothing is known, or the oracle's own is missing."""
    value = record.value
    if known is None:
        return None
    if known == "-" or value is None:
        return known == "-" and value is None
    low = value if record.low is None else record.low
    high = value if record.high is None else record.high
    if known in ("<", ">", "="):
        if truth is None or truth.value is None:
            return None
        below = high < (truth.value if truth.low is None else truth.low)
        above = low > (truth.value if truth.high is None else truth.high)
        near = not below and not above and abs(value - truth.value) <= NEAR
        return {"<": below, ">": above, "=": near}[known]
    if isinstance(known, list):
        return bool(known[0] <= value <= known[1])
    exact = _number(known, record.task_parameters)
    if exact in (0, 1):
        return value == exact
    return value - 2 * (value - low) <= exact <= value + 2 * (high - value)


def _number(known: Any, parameters: Facts) -> float:
    """A number, the name of a parameter, or one over either; of a parameter that is none, NaN."""
    if not isinstance(known, str):
        return float(known)
    one, slash, rest = known.partition("/")
    name = rest if slash else one
    value = number(parameters, name) if name in parameters else float(name)
    if not slash:
        return nan if value is None else value
    return float(one) / value if value else nan


# ---- what published scripts read

RANKS = (
    rank("", "Rank of hidden states", "effective_rank"),
    rank("", "Rank of embeddings, published", "effective_rank_embedding"),
)
BESIDE: dict[str, tuple[Column, ...]] = {
    "taxi": (
        Column("", "Reached %", "trajectories", "reached"),
        Column("", "Legal, published %", "trajectories", "legal"),
        Column("", "Detours reached %", "detours", "reached", DETOUR),
        Column("", "Detours legal, published %", "detours", "legal", DETOUR),
        compression("", "Compression", "precision"),
        compression("", "Compression, published", "released"),
        *RANKS,
    ),
    "path_star": (
        Column("", "Path, greedy %", "accuracy", "accuracy", GREEDY),
        Column("", "Path, sampled, published %", "accuracy", "accuracy", ("decode=sampled",)),
        *RANKS,
    ),
    "countdown": (
        countdown("", "Strict checker %", "kind=heldout"),
        countdown("", "Checker, published %", "score=released", "kind=heldout"),
        *RANKS,
    ),
}


def _published(records: Sequence[Record]) -> tuple[list[Grid], list[Line], list[str]]:
    """For each setting with trained models: the definition's reading beside the published one; and
    what is over fewer seeds than its row."""
    grids: list[Grid] = []
    lines: list[Line] = []
    notes: list[str] = []
    for task, columns in BESIDE.items():
        layout: Layout = replace(LAYOUTS[task], columns=columns, paper_settings=())
        for block in blocks_of("", layout, records):
            rows = [r for r in block.rows if r.source == "measured" and r.num_seeds]
            rows = [r for r in rows if r.objective not in REFERENCES]
            if not rows:
                continue
            title = f"Published readings: {task}, {block.heading}"
            grids.append(grid_of(title, columns, rows))
            notes += [f"{title}: {note}." for note in fewer(columns, rows)]
            for row in rows:
                for c, cell in zip(columns, row.cells, strict=True):
                    numbers = (cell.value, cell.low, cell.high, cell.n or None)
                    lines.append((title, c.heading, row.label, *numbers, "", ""))
    return grids, lines, notes
