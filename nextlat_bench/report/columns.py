"""What a table is made of: columns, the layout that holds them, and how labels are written.

A column says which records it shows; a layout says who has a row in any case and what makes one of
the paper's numbers comparable with ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Any

from nextlat_bench.report.facts import Facts, number, told_apart
from nextlat_bench.report.records import Record
from nextlat_bench.report.statistics import Estimate, middle_of_seeds, over_seeds, share_of_seeds

__all__ = ["DASH", "LABELS", "PLAIN", "REFERENCES", "VARIANT", "Column", "Layout", "label_of"]

DASH = "–"  # noqa: RUF001  missing is a dash, never zero
LABELS = {"gpt": "GPT", "mtp": "MTP", "jtp": "JTP", "nextlat": "NextLat", "bst": "BST"}
LABELS |= {"noisy_nextlat": "NextLat, noisy states", "gru": "GRU", "oracle": "True world model"}
LABELS |= {"stationary_nextlat": "NextLat, stationary states"}
LABELS |= {"closed_nextlat": "NextLat, closed states"}
LABELS |= {"hugging_face": "Hugging Face", "callable": "Callable", "ideal_learner": "Ideal learner"}
REFERENCES = ("ideal_learner", "oracle")  # what could be had: shown where measured, never drawn
VARIANT = {"horizon": "d={}", "residual": "residual={}", "model": "{}"}


@dataclass(frozen=True)
class Column:
    """What a column shows; `key` names the paper's number in published.toml.

    conditions: any of these. Where there is a `multiple`, "{}" is that times the task's own length.
    parameters: a probe's, where it matters.
    solved_at: the cell is the share of seeds whose value is at least this.
    typical: it is their median, and the least and largest, for what no mean describes.
    most: the largest value that there can be; 1 of percentages.
    """

    key: str
    heading: str
    probe: str
    metric: str
    conditions: tuple[str, ...] = ("",)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    form: str = ".1f"
    multiple: int = 0
    solved_at: float | None = None
    typical: bool = False
    most: float = inf

    @property
    def percent(self) -> bool:
        return self.heading.endswith("%")

    @property
    def where(self) -> tuple[str, ...]:
        """Probe, metric and, where there is one alone, the condition."""
        alone = self.conditions if len(self.conditions) == 1 and not self.multiple else ()
        return self.probe, self.metric, *alone

    def shows(self, record: Record) -> bool:
        given = record.probe_parameters
        return (
            record.metric == self.metric
            and record.probe == self.probe
            and record.condition in self._conditions(record)
            and all(given.get(name, value) == value for name, value in self.parameters.items())
        )

    def _conditions(self, record: Record) -> Sequence[str]:
        if not self.multiple:  # one's own may hold braces
            return self.conditions
        length = self.multiple * (number(record.task_parameters, "length") or 0)
        return [condition.format(length) for condition in self.conditions]

    def cell(self, records: Sequence[Record]) -> Estimate:
        """One record a seed, of one protocol -> the estimate over them, in the heading's unit."""
        if self.typical:
            over = middle_of_seeds(records)
        elif self.solved_at is not None:
            over = share_of_seeds(records, self.solved_at)
        else:
            over = over_seeds(records, 1.0 if self.percent else self.most)
        return over.times(100.0 if self.percent else 1.0)

    def paper(self, row: Mapping[str, Any]) -> Estimate:
        """The paper's number, in the heading's unit; of "> 95" the lower end alone."""
        return Estimate(row.get(self.key), low=row.get(f"{self.key}_above"))

    def text(self, value: float | None) -> str:
        """Without an exponent, which neither people nor the page sort by."""
        if value is None:
            return DASH
        text = format(value, self.form)
        return f"{Decimal(text):f}" if "e" in text else text

    def lines(self, cell: Estimate) -> list[str]:
        """The value and, where it is ours, its interval."""
        if not cell.num_seeds:
            bound = cell.value is None and cell.low is not None
            return [f"> {self.text(cell.low)}" if bound else self.text(cell.value)]
        if self.solved_at is not None and cell.num_seeds == 1:  # solved or not
            return [self.text(cell.value)]
        return [self.text(cell.value), f"[{self.text(cell.low)}, {self.text(cell.high)}]"]


PLAIN = Column("", "", "", "", form=".4g")  # how a metric of no table is written


@dataclass(frozen=True)
class Layout:
    """A table as data.

    rows: objectives that have a row in any case; other trained ones and anybody's own models
        follow, before the last.
    settings: dotted task parameter -> how a block's heading writes it, with its value as {} and
        any parameter's as {name}; "" where another one's text says it.
    usual: settings that are named only where they differ from this.
    paired: the column whose values are compared seed by seed with those of the first of `rows`,
        where each seed has test items of its own, which all models share.
    paper_settings: the paper's rows stand only in blocks that agree with theirs in these; the
        others get blocks of their own. None of them: beside ours everywhere.
    """

    title: str
    task: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    settings: Mapping[str, str]
    usual: Mapping[str, Any] = field(default_factory=dict)
    paired: str = ""
    paper_settings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def shown(self, records: Iterable[Record]) -> list[str]:
        """The paper's objectives, and what else was trained, or is a reference, and has a value in
        some column."""
        valued = [r for r in records if r.objective not in self.rows and r.value is not None]
        rowed = [
            r
            for r in valued
            if r.step > 0 or "model" in r.objective_parameters or r.objective in REFERENCES
        ]
        others = {r.objective for r in rowed if any(c.shows(r) for c in self.columns)}
        others_in_order = sorted(others, key=lambda name: (name in REFERENCES, name))
        return [*self.rows[:-1], *others_in_order, self.rows[-1]]

    def chosen(self, records: Iterable[Record]) -> list[list[Record]]:
        """For each column the records that it shows."""
        found: dict[tuple[str, ...], list[Record]] = {}  # by metric, and by its condition as well
        for r in records:
            found.setdefault((r.probe, r.metric), []).append(r)
            found.setdefault((r.probe, r.metric, r.condition), []).append(r)
        return [[r for r in found.get(c.where, ()) if c.shows(r)] for c in self.columns]

    def cells(self, records: Sequence[Sequence[Record]]) -> tuple[Estimate, ...]:
        return tuple(c.cell(some) for c, some in zip(self.columns, records, strict=True))

    def headings(self, blocks: Sequence[Facts], scale: str = "{} scale") -> list[str]:
        """A block's heading: its scale, its settings and, where two would be the same, all else
        in which they differ."""
        usual = self.usual.items()
        odd = [{k: v for k, v in facts.items() if (k, v) not in usual} for facts in blocks]
        return told_apart(odd, {"scale": scale} | dict(self.settings))


def label_of(objective: str, variant: str) -> str:
    return LABELS.get(objective, objective) + (f" ({variant})" if variant else "")
