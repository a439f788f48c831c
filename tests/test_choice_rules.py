"""What a grid does not tell apart, and what it never mixes: the rules of the choices, by hand."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from report_records import TAXI, seeds

from nextlat_bench.report.choices import choices_of, choices_sheet
from nextlat_bench.report.records import Record

Interval = tuple[float, float, float]
GPT = {"objective": "gpt", "objective_parameters": {}}


def tried(values: dict[float, Interval], **changes: Any) -> list[Record]:
    """A run for each learning rate: its value between its ends."""
    found = []
    for rate, (low, value, high) in values.items():
        training = {"steps": 700, "muon_learning_rate": rate}
        its = {"metric": "reached", "step": 700, "low": low, "high": high, "training": training}
        found += seeds(value, **its | changes)
    return found


def rates(records: list[Record], radius: float = 800.0) -> dict[str, float]:
    """Objective -> the rate that it gets."""
    return {
        choice.objective: choice.tried[choice.best]["training.muon_learning_rate"]
        for choice in choices_of(records)
        if f"radius {radius:g} m" in choice.heading
    }


LIKES_THE_LATER = tried({0.01: (0.0, 0.125, 0.25), 0.02: (0.75, 0.875, 1.0)})


def test_an_interval_that_just_reaches_the_best_ones_is_not_told_apart() -> None:
    """GPT: 0.02 ends where 0.01 begins, and suits both; a hair lower it does not reach it."""
    for end, rate in ((0.5, 0.02), (0.499, 0.01)):
        gpt = tried({0.01: (0.5, 0.75, 0.875), 0.02: (0.25, 0.375, end)}, **GPT)
        assert rates([*LIKES_THE_LATER, *gpt]) == {"nextlat": 0.02, "gpt": rate}


def test_of_equal_ones_the_first() -> None:
    same = (0.25, 0.5, 0.75)
    assert rates(tried({0.04: same, 0.02: same, 0.01: (0.0, 0.125, 0.2)})) == {"nextlat": 0.02}


def test_what_suits_all_is_a_mean_and_not_a_sum() -> None:
    """At 0.04 GPT alone was tried: 0.5, beside 0.5 and 0.125 at 0.02."""
    same = (0.25, 0.5, 0.75)
    ours = tried({0.01: (0.75, 0.875, 1.0), 0.02: (0.0, 0.125, 0.25)})
    gpt = tried({0.02: same, 0.04: same}, **GPT)
    assert rates([*ours, *gpt])["gpt"] == 0.04


def test_what_suits_all_is_asked_of_one_grid_alone() -> None:
    """On another crop of the map both do best with 0.01."""
    same = (0.25, 0.5, 0.75)
    here = [*LIKES_THE_LATER, *tried({0.01: same, 0.02: same}, **GPT)]
    elsewhere = {"task_parameters": TAXI | {"radius": 300.0}}
    both = {0.01: (0.9, 0.95, 1.0), 0.02: (0.0, 0.0, 0.1)}
    there = [*tried(both, **elsewhere), *tried(both, **elsewhere, **GPT)]
    assert rates([*here, *there]) == {"nextlat": 0.02, "gpt": 0.02}
    assert rates([*here, *there], 300.0) == {"nextlat": 0.01, "gpt": 0.01}


def test_values_under_several_probe_parameters_are_not_mixed() -> None:
    """Ten trials say more of 0.01 than of 0.02; the thousand count."""
    full = tried({0.01: (0.2, 0.25, 0.3), 0.02: (0.45, 0.5, 0.55)})
    brief = [
        replace(r, value=1.0 - 2 * (r.value or 0.0), n=10, probe_parameters={"num_trials": 10})
        for r in full
    ]
    [choice] = choices_of([*full, *brief])
    assert [(cell.value, cell.n) for cell in choice.cells] == [(25.0, 1000), (50.0, 1000)]
    assert rates([*full, *brief]) == {"nextlat": 0.02}


def test_what_was_not_trained_has_no_choice() -> None:
    """A model whose answer is known, or somebody's own, under two sets of facts."""
    assert choices_of([replace(r, step=0) for r in LIKES_THE_LATER]) == []


def test_the_numbers_stand_under_their_names() -> None:
    lines = list(csv.DictReader(io.StringIO(choices_sheet(LIKES_THE_LATER).csv())))
    shown = [[float(line[name]) for name in ("low", "value", "high", "n")] for line in lines]
    assert shown == [pytest.approx([0.0, 12.5, 25.0, 1000]), pytest.approx([75.0, 87.5, 100, 1000])]


@pytest.mark.parametrize("task", ["taxi", "lift"])
def test_what_no_heading_usually_names_is_a_grid_of_its_own(task: str) -> None:
    """Longer walks; the floors of a task of one's own. Each has its own best."""
    where: dict[str, Any] = {"task": task, "probe": "trajectories", "metric": "reached"}
    if task == "lift":
        where |= {"probe": "accuracy", "metric": "accuracy", "condition": "decode=greedy"}
    one = tried({0.01: (0.8, 0.9, 1.0), 0.02: (0.1, 0.2, 0.3)}, **where)
    elsewhere = where | {"task_parameters": TAXI | {"max_nodes": 80}}
    other = tried({0.01: (0.1, 0.2, 0.3), 0.02: (0.8, 0.9, 1.0)}, **elsewhere)
    made = choices_sheet([*one, *other])
    assert [("max_nodes=80" in grid.heading, len(grid.rows)) for grid in made.grids] == [
        (False, 1),
        (True, 1),
    ]
    marked = [[cell.partition("\n")[0] for cell in grid.rows[0][1:]] for grid in made.grids]
    assert marked == [["90.0*", "20.0"], ["20.0", "90.0*"]]


def test_two_fields_of_one_name_are_told_apart() -> None:
    """A GRU's own layers, and the decoder's: four models, four columns."""
    found = []
    for own, decoders in ((1, 2), (1, 4), (2, 2), (2, 4)):
        gru = {"objective": "gru", "objective_parameters": {"layers": own}}
        made = tried({0.01: (0.1, 0.2, 0.3)}, **gru, decoder={"layers": decoders, "width": 8})
        found += [replace(r, run=f"{r.run}-{decoders}") for r in made]
    [grid] = choices_sheet(found).grids
    assert grid.head[1:] == (
        "decoder.layers=2, layers=1",
        "decoder.layers=2, layers=2",
        "decoder.layers=4, layers=1",
        "decoder.layers=4, layers=2",
    )
    assert all(cell.startswith("20.0") for cell in grid.rows[0][1:])


def test_where_there_is_no_grid_the_notes_say_so_in_every_form() -> None:
    made = choices_sheet([])
    for text in (made.markdown(), made.latex()):
        assert "No grid" in text
