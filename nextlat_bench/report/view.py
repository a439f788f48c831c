"""One run's measurements, beside the paper's and the true world model's, for the terminal."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nextlat_bench.files import visible
from nextlat_bench.report.columns import DASH, PLAIN, VARIANT, Column, label_of
from nextlat_bench.report.facts import Facts, flat, grouped, told_apart
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.published import paper_rows
from nextlat_bench.report.records import Record, record_file
from nextlat_bench.report.terminal import rich_table

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["measurements_view"]

LONG = 24  # characters of a condition, which are broken at its commas beyond
EVERY = [column for layout in LAYOUTS.values() for column in layout.columns]
MANY = 12  # conditions of one metric that are all shown
REASONS = 3  # of one probe's that are all shown: why it left trials out


def measurements_view(
    records: Sequence[Record],
    reference_records: Sequence[Record] | None = None,
    split: str = "test",
) -> "RenderableType":
    """One run's measurements for rich, beside the paper's and the true world model's.

    Of a metric under more than a dozen conditions, those that the table shows.
    `reference_records`: the subject "oracle" measured on the same task; others are ignored.
    """
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    if not records:
        return Text("no measurements")
    first = records[0]
    name = first.task if first.task in LAYOUTS else ""
    columns = LAYOUTS[name].columns if name else ()
    paper = _paper(name, first)
    reference = [r for r in reference_records or () if r.objective == "oracle"]
    truth = {r.what: r for r in reference if r.task_parameters == first.task_parameters}
    who = label_of(first.objective, *told_apart([first.objective_parameters], VARIANT))
    title = f"{first.task}: {who}, {first.scale} scale, seed {first.seed}, {first.step:,} steps"
    title += f", {split} split" if split != "test" else ""
    out = rich_table(title, ["", ""], ["ours [95%]", "paper", "true\nworld", "n", "skipped"])
    groups = grouped(records, lambda r: {"probe": r.probe} | r.probe_parameters)
    headings = told_apart([fact for fact, _ in groups], {"probe": "{}"})
    reasons = []
    for heading, (_, group) in zip(headings, groups, strict=True):
        out.add_row(Text(heading.replace("_", " "), "bold"))
        shown = _brief(group, columns)
        for record in shown:
            exact = next((c for c in columns if c.shows(record)), None)
            alike = (c for c in EVERY if (c.probe, c.metric) == (record.probe, record.metric))
            column = exact or next(alike, PLAIN)
            true = column.cell([truth[record.what]] if record.what in truth else [])
            metric = Text(f"{record.metric.replace('_', ' ')}{' %' * column.percent}")
            where = record.condition
            where = where.replace(",", ", ") if len(where) > LONG else where
            out.add_row(
                Padding(metric.append(f"  {where}" if where else "", "dim"), (0, 0, 0, 2)),
                {True: "↑", False: "↓", None: ""}[record.higher_is_better],
                Text(" ".join(column.lines(column.cell([record]))), "bold"),
                Text(" ".join(exact.lines(exact.paper(paper))) if exact else DASH, "dim"),
                column.text(true.value),
                f"{record.n:,}",
                f"{record.n_skipped:,}",
            )
        if hidden := len(group) - len(shown):
            out.add_row(Text(f"  … {hidden} more in {record_file(split)}", "dim"))
        told = list(dict.fromkeys(visible(r.skipped_because) for r in group if r.skipped_because))
        if len(told) > REASONS:
            told[REASONS:] = [f"{len(told) - REASONS} more reasons in {record_file(split)}"]
        reasons += [f"- {heading}: {reason}" for reason in told]
    return Group(out, *(Text(reason, "dim") for reason in reasons))


def _paper(name: str, record: Record) -> Facts:
    """The paper's row of the same objective, horizon and, where they matter, settings."""
    facts = flat(record.task_parameters) | {"horizon": record.objective_parameters.get("horizon")}
    keys = ("horizon", *LAYOUTS[name].paper_settings) if name else ("horizon",)
    rows = paper_rows(name, record.objective, {key: facts.get(key) for key in keys})
    return rows[0] if rows else {}


def _brief(records: Sequence[Record], columns: Sequence[Column]) -> list[Record]:
    """One probe's records without those that would flood the screen, in their own order."""
    often = Counter(record.metric for record in records)
    chosen = [
        r
        for r in records
        if often[r.metric] <= MANY or not r.condition or any(c.shows(r) for c in columns)
    ]
    return chosen or list(records[:MANY])
