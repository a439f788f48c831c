"""The grids that presets were chosen from: on validation data, one measure a task.

Made by `nextlat-bench sweep ... --set training.FIELD=VALUE,VALUE --split validation`. A model gets
the best value, but of those that the grid does not tell from it the one that all models of the grid
do best with. Nothing is read of the test split.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from nextlat_bench.report.columns import DASH, VARIANT, Column, Layout, label_of
from nextlat_bench.report.facts import Facts, Keyed, differing, grouped, say, told_apart
from nextlat_bench.report.layouts import layout_of, own_tasks
from nextlat_bench.report.records import Distinct, Record, distinct, one_protocol, variants_of
from nextlat_bench.report.sheets import Grid, Sheet
from nextlat_bench.report.statistics import Estimate

__all__ = ["DECIDES", "TITLE", "Choice", "as_chosen", "choices_of", "choices_sheet"]

TITLE = "Settings chosen on validation data"
# task -> the column of its table that decides; Countdown's held-out targets are the test split's
DECIDES = {"taxi": "reached", "path_star": "greedy", "countdown": "seen", "a5": "trunk_1x"}
# of a task of one's own, the first that was measured: probe and condition of an accuracy
OWN = (("accuracy", "decode=greedy"), ("accuracy", "decode=parallel"), ("teacher_forced", ""))
NOTES = (
    "Marked (*) is the chosen value: of those whose intervals reach the interval of the best in "
    "the row, which the grid does not tell apart, the one with the highest mean over all models; "
    "ties go to the first.",
    "Measured on the validation split after the steps that each heading names; nothing was read of "
    "the test split.",
)
NO_GRID = (
    "No grid: no records of the validation split that hold several settings of a model, by the one "
    "measure that decides for its task (of a task of one's own the probe accuracy, or where it was "
    "not asked teacher_forced; for language there is none)."
)


@dataclass(frozen=True)
class Choice:
    """What was tried of one model under one task's setting, and how well each did."""

    task: str
    setting: Facts
    objective: str
    horizon: int | None
    heading: str
    label: str
    column: Column
    tried: tuple[Facts, ...]
    cells: tuple[Estimate, ...]
    best: int = 0


def choices_sheet(records: Iterable[Record]) -> Sheet:
    """A grid for each task, setting and number of steps: models down, the values tried across."""
    grids: list[Grid] = []
    lines: list[tuple[object, ...]] = []
    choices = choices_of(records)
    for heading in dict.fromkeys(choice.heading for choice in choices):
        mine = [choice for choice in choices if choice.heading == heading]
        every = sorted((facts for choice in mine for facts in choice.tried), key=_order)
        tried = list(dict.fromkeys(map(_text, every)))
        rows = []
        for choice in mine:
            shown = dict.fromkeys(tried, DASH)
            for i, (facts, cell) in enumerate(zip(choice.tried, choice.cells, strict=True)):
                text = _text(facts)
                value, *interval = choice.column.lines(cell)
                shown[text] = "\n".join([value + "*" * (i == choice.best), *interval])
                numbers = (cell.value, cell.low, cell.high, cell.n)
                marked = "yes" if i == choice.best else "no"
                lines.append((heading, choice.label, text, *numbers, marked))
            rows.append((choice.label, *shown.values()))
        grids.append(Grid(heading, (mine[0].column.heading, *tried), tuple(rows), numbers=True))
    header = ("setting", "model", "tried", "value", "low", "high", "n", "chosen")
    notes = NOTES if grids else (NO_GRID,)
    return Sheet("choices", TITLE, tuple(grids), notes, (header, *lines))


def choices_of(records: Iterable[Record]) -> list[Choice]:
    """Every model of which several variants were measured under one setting, as long trained."""
    rows, found = distinct(records), []
    for task in [*DECIDES, *own_tasks(rows)]:
        mine = [r for r in rows if r.task == task and r.step > 0]
        layout = layout_of(task, mine)
        if (column := _deciding(task, layout)) is None:
            continue
        shown = [r for r in mine if column.shows(r)]
        settings = grouped(shown, lambda r: r.setting)
        titles = layout.headings([facts for facts, _ in settings])
        by_steps = [
            (title, facts, steps["trained"], group)
            for title, (facts, some) in zip(titles, settings, strict=True)
            for steps, group in grouped(some, lambda r: {"trained": r.step})
        ]
        for title, facts, steps, group in by_steps:
            heading = f"{task}, {title}, {steps:,} steps"
            for model, its in grouped(group, _model):
                variants = variants_of(its)
                if len(variants) > 1:
                    label = label_of(model["objective"], *told_apart([model], VARIANT))
                    keys = differing([facts for facts, _ in variants])
                    tried = [{key: facts.get(key) for key in keys} for facts, _ in variants]
                    cells = [column.cell(one_protocol(some)) for _, some in variants]
                    both = sorted(zip(tried, cells, strict=True), key=lambda pair: _order(pair[0]))
                    who = task, facts, model["objective"], model["horizon"], heading, label, column
                    ordered = [tuple(each) for each in zip(*both, strict=True)]
                    found.append(Choice(*who, ordered[0], ordered[1]))
    grids = grouped(found, lambda choice: {"": choice.heading})
    return [choice for _, grid in grids for choice in _decided(grid)]


def as_chosen(records: Iterable[Record], tried: Iterable[Record]) -> list[Record]:
    """What verdicts and figures are of: of the settings that a grid of these records of the
    validation split tried of a model, those that it chose, once as many seeds of them are measured.
    As presets do, a task's only grid at a scale also speaks where it was not made: on other graphs.
    """
    rows = distinct(records)
    kept = {record.run: record for record in rows}  # a record of each run
    choices = choices_of(tried)
    places = [
        (c.task, c.objective, c.horizon, c.setting["scale"], Keyed(c.setting).text) for c in choices
    ]
    for choice, (*model, place) in zip(choices, places, strict=True):
        alone = all(where == place for *who, where in places if who == model)
        mine = [r for r in kept.values() if [r.task, *_model(r).values(), r.scale] == model]
        for setting, group in grouped(mine, lambda record: record.setting):
            if alone or Keyed(setting).text == place:
                for run in _passed_over(choice, group):
                    del kept[run]
    return Distinct(record for record in rows if record.run in kept)


def _passed_over(choice: Choice, records: Iterable[Record]) -> list[str]:
    """Of these runs of one model in one setting, those of what was tried and not chosen, if the
    chosen has as many seeds."""
    runs: dict[str, list[Record]] = {_text(facts): [] for facts in choice.tried}
    for record in records:
        text = _text({key: record.recipe.get(key) for key in choice.tried[0]})
        if text in runs:
            runs[text].append(record)
    seeds = {text: len({record.seed for record in some}) for text, some in runs.items()}
    best = _text(choice.tried[choice.best])
    few = [text for text in runs if text != best and seeds[text] <= seeds[best]]
    return [record.run for text in few for record in runs[text]]


def _deciding(task: str, layout: Layout) -> Column | None:
    if task in DECIDES:
        return next(column for column in layout.columns if column.key == DECIDES[task])
    known = {(c.probe, *c.conditions): c for c in layout.columns if c.metric == "accuracy"}
    return next((known[which] for which in OWN if which in known), None)


def _decided(grid: Sequence[Choice]) -> list[Choice]:
    """The choices of one grid, with the value that each model gets."""
    by_text: dict[str, list[float]] = {}
    for choice in grid:
        for facts, cell in zip(choice.tried, choice.cells, strict=True):
            if cell.value is not None:
                by_text.setdefault(_text(facts), []).append(cell.value)
    mean = {text: sum(values) / len(values) for text, values in by_text.items()}

    def chosen(choice: Choice) -> int:
        values = [-inf if cell.value is None else cell.value for cell in choice.cells]
        top = choice.cells[values.index(max(values))]
        floor = top.value if top.low is None else top.low
        alike = [
            i
            for i, cell in enumerate(choice.cells)
            if cell is top or (cell.high is not None and floor is not None and cell.high >= floor)
        ]
        return max(alike, key=lambda i: mean.get(_text(choice.tried[i]), -inf))

    return [replace(choice, best=chosen(choice)) for choice in grid]


def _model(record: Record) -> Facts:
    return {"objective": record.objective, "horizon": record.objective_parameters.get("horizon")}


def _text(facts: Facts) -> str:
    """muon_learning_rate=0.02; in full where two would be called the same."""
    short = {key.rpartition(".")[2]: value for key, value in facts.items()}
    named = short if len(short) == len(facts) else facts
    return ", ".join(say(named, named))


def _order(facts: Facts) -> list[tuple[str, float, str]]:
    """Numbers by size, anything else by its text."""
    numbers = {key: v if isinstance(v, int | float) else 0.0 for key, v in facts.items()}
    return [(key, numbers[key], str(value)) for key, value in facts.items()]
