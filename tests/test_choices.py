"""The grids that presets were chosen from: which value is marked, and what is never mixed."""

import csv
import io
from typing import Any

import pytest
from report_records import TAXI, record, seeds, text_of
from typer.testing import CliRunner

from nextlat_bench import registry
from nextlat_bench.cli import app
from nextlat_bench.report.choices import DECIDES, OWN, as_chosen, choices_of, choices_sheet
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.records import Record, distinct, write
from nextlat_bench.report.shipped import committed_choices
from nextlat_bench.run import Run

RATES = (0.01, 0.02, 0.04)


def tried(*values: float | None, step: int = 700, **changes: Any) -> list[Record]:
    """A run for each learning rate, of which this share arrives."""
    return [
        found
        for rate, value in zip(RATES, values, strict=True)
        for found in seeds(
            value,
            metric="reached",
            low=None if value is None else value - 0.01,
            high=None if value is None else value + 0.01,
            step=step,
            training={"steps": step, "muon_learning_rate": rate},
            **changes,
        )
    ]


GPT = {"objective": "gpt", "objective_parameters": {}}
BOTH = [*tried(0.5, 0.7, 0.6), *tried(0.4, 0.35, 0.1, **GPT)]


def test_the_best_is_marked() -> None:
    gpt, nextlat = sorted(choices_of(BOTH), key=lambda choice: choice.objective)
    assert (nextlat.label, nextlat.tried[nextlat.best]) == (
        "NextLat (d=1)",
        {"training.muon_learning_rate": 0.02},
    )
    assert gpt.tried[gpt.best] == {"training.muon_learning_rate": 0.01}
    made = choices_sheet(BOTH)
    [grid] = made.grids
    assert grid.heading == "taxi, laptop scale, heliopolis, radius 800 m, random walks, 700 steps"
    assert grid.head == (
        "Valid, reached %",
        *(f"muon_learning_rate={rate}" for rate in RATES),
    )
    rows = {row[0]: [cell.split("\n")[0] for cell in row[1:]] for row in grid.rows}
    assert rows == {"NextLat (d=1)": ["50.0", "70.0*", "60.0"], "GPT": ["40.0*", "35.0", "10.0"]}
    lines = list(csv.DictReader(io.StringIO(made.csv())))
    assert [line["chosen"] for line in lines if line["model"] == "GPT"] == ["yes", "no", "no"]
    assert "70.0*" in text_of(made.terminal())


def test_what_the_grid_does_not_tell_apart_is_what_suits_all() -> None:
    """GPT does a hair better at 0.01, within its intervals; both together at 0.02."""
    hair = [*tried(0.5, 0.7, 0.6), *tried(0.415, 0.4, 0.1, **GPT)]
    clear = [*tried(0.5, 0.7, 0.6), *tried(0.43, 0.4, 0.1, **GPT)]
    for records, rate in ((hair, 0.02), (clear, 0.01)):
        [gpt] = [choice for choice in choices_of(records) if choice.objective == "gpt"]
        assert gpt.tried[gpt.best] == {"training.muon_learning_rate": rate}


def at_rate(rate: float, *values: float, **changes: Any) -> list[Record]:
    """A run on test for each seed, twice as long as the grid's."""
    training = {"steps": 1400, "muon_learning_rate": rate}
    return seeds(*values, metric="reached", step=1400, training=training, **changes)


def test_verdicts_and_figures_are_of_what_was_chosen() -> None:
    chosen, passed_over = at_rate(0.02, 0.5, 0.5, 0.5), at_rate(0.01, 0.9, 0.9, 0.9)
    others = [
        *at_rate(0.08, 0.6),  # not in the grid
        *at_rate(0.02, 0.3, 0.3, **GPT),  # for which it chose 0.01, of which there are fewer seeds
        *at_rate(0.01, 0.3, **GPT),
        *at_rate(0.01, 0.7, objective_parameters={"horizon": 8}),  # another model
        *at_rate(0.01, 0.7, task_parameters=TAXI | {"radius": 300.0}),  # another setting
    ]
    kept = as_chosen([*chosen, *passed_over, *others], BOTH)
    assert {r.run for r in kept} == {r.run for r in [*chosen, *others]}
    assert as_chosen([*chosen[:2], *passed_over], BOTH) == distinct([*chosen[:2], *passed_over])
    assert as_chosen([*chosen, *passed_over], []) == distinct([*chosen, *passed_over])


def test_a_grid_of_one_setting_speaks_for_those_that_have_none() -> None:
    """As presets do; of its own scale, and not where another setting has a grid, too."""

    def at(rate: float, value: float, radius: float, **changes: Any) -> list[Record]:
        place = {"task_parameters": TAXI | {"radius": radius}}
        return at_rate(rate, value, value, value, **place, **changes)

    chosen, passed_over = at(0.02, 0.5, 300.0), at(0.01, 0.9, 300.0)
    assert as_chosen([*chosen, *passed_over], BOTH) == distinct(chosen)
    elsewhere = {"task_parameters": TAXI | {"radius": 500.0}}
    two = [*BOTH, *tried(0.7, 0.5, 0.6, **elsewhere)]
    assert as_chosen([*chosen, *passed_over], two) == distinct([*chosen, *passed_over])
    here = [*at(0.02, 0.5, 500.0), *at(0.01, 0.9, 500.0)]
    assert as_chosen(here, two) == distinct(here[3:])
    larger = [*at(0.02, 0.5, 300.0, scale="paper"), *at(0.01, 0.9, 300.0, scale="paper")]
    assert as_chosen(larger, BOTH) == distinct(larger)


def test_a_value_that_is_missing_is_never_the_best() -> None:
    [choice] = choices_of(tried(None, 0.1, 0.0))
    assert choice.tried[choice.best] == {"training.muon_learning_rate": 0.02}
    assert choices_sheet(tried(None, 0.1, 0.0)).grids[0].rows[0][1].startswith("–")  # noqa: RUF001


def test_longer_trainings_and_other_settings_and_horizons_stand_apart() -> None:
    far = {"objective_parameters": {"horizon": 8}}
    elsewhere = {"task_parameters": TAXI | {"radius": 300.0}}
    records = [*BOTH, *tried(0.1, 0.2, 0.3, step=1400), *tried(0.3, 0.2, 0.1, **far)]
    records += tried(0.9, 0.8, 0.7, **elsewhere)
    found = {(c.heading.partition("radius ")[2], c.label): c.best for c in choices_of(records)}
    assert found == {
        ("800 m, random walks, 700 steps", "NextLat (d=1)"): 1,
        ("800 m, random walks, 700 steps", "NextLat (d=8)"): 0,
        ("800 m, random walks, 700 steps", "GPT"): 0,
        ("800 m, random walks, 1,400 steps", "NextLat (d=1)"): 2,
        ("300 m, random walks, 700 steps", "NextLat (d=1)"): 0,
    }


def test_nothing_is_chosen_of_one_variant_or_of_another_measure() -> None:
    one = seeds(0.5, 0.6, metric="reached")
    other = [record(run=f"r{x}", value=x, training={"learning_rate": x}) for x in (0.1, 0.2)]
    assert choices_of([*one, *other]) == []
    (note,) = choices_sheet([]).notes
    assert note.startswith("No grid: no records of the validation split")
    assert all(probe in note for probe, _ in OWN)


def test_what_decides_is_a_column_and_more_is_better() -> None:
    for task, key in DECIDES.items():
        [column] = [column for column in LAYOUTS[task].columns if column.key == key]
        probe = registry.load("probes", column.probe)
        assert {metric.name: metric.higher_is_better for metric in probe.metrics}[column.metric]


COMMITTED = choices_of(committed_choices())


@pytest.mark.parametrize("choice", COMMITTED, ids=lambda each: f"{each.task}-{each.label}")
def test_presets_have_what_was_best(choice: Any) -> None:
    run: Run = registry.load("presets", choice.task).run(choice.objective, "laptop", 0)
    for name, value in choice.tried[choice.best].items():
        part, _, key = name.partition(".")
        assert getattr(getattr(run, part), key) == value


def test_the_command_shows_a_users_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, each in enumerate(BOTH):
        folder = tmp_path / "mine" / f"run{i}"
        folder.mkdir(parents=True)
        write(folder / "validation.jsonl", [each])
        (folder / "run.json").write_text("{}")
        write(folder / "records.jsonl", [])
    shown = CliRunner().invoke(app, ["report", "choices", "--records", "mine", "--format", "csv"])
    assert shown.output == choices_sheet(BOTH).csv()
    page = CliRunner().invoke(
        app, ["report", "choices", "--records", "mine", "--format", "html", "--out", "page.html"]
    )
    assert page.exit_code == 0, page.output
    assert "70.0*" in (tmp_path / "page.html").read_text()


def test_the_committed_records_are_shown_on_request(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    write(folder / "records.jsonl", [record()])
    write(folder / "validation.jsonl", BOTH)
    for table in ("taxi", "choices"):
        asked = ["report", table, "--format", "csv"]
        own, shipped = (CliRunner().invoke(app, [*asked, *more]) for more in ([], ["--committed"]))
        assert own.exit_code == shipped.exit_code == 0
        assert own.output != shipped.output
    assert shipped.output == choices_sheet(committed_choices()).csv()


def test_of_a_task_of_ones_own_an_accuracy_decides() -> None:
    """A sweep of it over rates had no grid."""
    own = {"task": "lift", "task_parameters": {"floors": 9}}
    greedy = {"probe": "accuracy", "metric": "accuracy", "condition": "decode=greedy"}
    rows = []
    for rate, value, taught in ((0.01, 0.2, 0.9), (0.02, 0.4, 0.8)):
        its = own | {"training": {"steps": 700, "muon_learning_rate": rate}}
        rows += seeds(value, **its, **greedy)
        rows += seeds(taught, **its, probe="teacher_forced", metric="accuracy")
    [choice] = choices_of(rows)
    assert (choice.task, choice.column.heading) == ("lift", "accuracy, accuracy, decode=greedy %")
    assert choice.tried[choice.best] == {"training.muon_learning_rate": 0.02}
    [choice] = choices_of([r for r in rows if r.probe == "teacher_forced"])
    assert choice.tried[choice.best] == {"training.muon_learning_rate": 0.01}
    assert choices_of([r for r in rows if r.probe == "trajectories"]) == []
