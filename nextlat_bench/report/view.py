"""One run's measurements, beside the paper's and the true world model's, for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nextlat_bench.report.records import Record, grouped, paper_row, told_apart, what
from nextlat_bench.report.tables import LAYOUTS, PLAIN, VARIANT, label_of, names, rich_table

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["measurements_view"]


def measurements_view(
    records: Sequence[Record], reference_records: Sequence[Record] | None = None
) -> "RenderableType":
    """One run's measurements for rich, beside the paper's and the true world model's.

    `reference_records`: the subject "oracle" measured on the same task; others are ignored.
    """
    from rich.console import Group
    from rich.text import Text

    if not records:
        return Text("no measurements")
    first = records[0]
    name = next((n for n in names() if LAYOUTS[n].task == first.task), "")
    columns = LAYOUTS[name].columns if name else ()
    paper = paper_row(name, first.objective, first.objective_parameters.get("horizon"))
    reference = [r for r in reference_records or () if r.objective == "oracle"]
    truth = {what(r): r for r in reference if r.task_parameters == first.task_parameters}
    who = label_of(first.objective, *told_apart([first.objective_parameters], VARIANT))
    title = f"{first.task}: {who}, {first.scale} scale, seed {first.seed}, {first.step:,} steps"
    out = rich_table(title, ["", ""], ["ours [95%]", "paper", "true\nworld", "n", "skipped"])
    groups = grouped(records, lambda r: {"probe": r.probe} | r.probe_parameters)
    headings = told_apart([fact for fact, _ in groups], {"probe": "{}"})
    reasons = []
    for heading, (_, group) in zip(headings, groups, strict=True):
        out.add_row(Text(heading.replace("_", " "), "bold"))
        for record in group:
            exact = next((c for c in columns if c.shows(record)), None)
            alike = (c for c in columns if (c.probe, c.metric) == (record.probe, record.metric))
            column = exact or next(alike, PLAIN)
            true = column.cell([truth[what(record)]] if what(record) in truth else [])
            metric = Text(f"  {record.metric.replace('_', ' ')}{' %' * column.percent}")
            out.add_row(
                metric.append(f"  {record.condition}" if record.condition else "", "dim"),
                {True: "↑", False: "↓", None: ""}[record.higher_is_better],
                Text(" ".join(column.lines(column.cell([record]))), "bold"),
                Text(column.text(paper.get(exact.key) if exact else None), "dim"),
                column.text(true.value),
                f"{record.n:,}",
                f"{record.n_skipped:,}",
            )
            if record.skipped_because:
                reasons.append(f"- {heading}: {record.skipped_because}")
    return Group(out, *(Text(reason, "dim") for reason in dict.fromkeys(reasons)))
