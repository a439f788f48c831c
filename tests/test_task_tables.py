"""The tables of Path-Star, Countdown and A5. Every number measured here is made up."""

import csv
import io
import random
import re
from dataclasses import replace
from typing import Any

import pytest
from report_records import (
    A5,
    COUNTDOWN,
    PATH_STAR,
    a5_records,
    accuracy,
    countdown_records,
    of,
    path_star_records,
    seeds,
    text_of,
)

from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import DASH, Row, Table, table

PAPER_GRAPHS = [f"paper, G({graph}), 100 ids: not trained here" for graph in ("2,10", "5,5", "7,7")]
EVERYTHING = [*path_star_records(), *countdown_records(), *a5_records()]


def row_of(made: Table, label: str, source: str = "measured", block: str = "") -> Row:
    """The one row with this label and source, in the blocks whose heading starts so."""
    [row] = [
        r for r in made.rows if (r.label, r.source) == (label, source) and r.block.startswith(block)
    ]
    return row


def cells(made: Table, *row: str) -> dict[str, str]:
    """Heading -> text."""
    lines = made.lines(row_of(made, *row))
    return {c.heading: " ".join(text) for c, text in zip(made.columns, lines, strict=True)}


def labels(made: Table, source: str = "measured", block: str = "") -> list[str]:
    return [r.label for r in made.rows if r.source == source and r.block.startswith(block)]


def blocks(made: Table) -> list[str]:
    return list(dict.fromkeys(row.block for row in made.rows))


# ---- Path-Star


def path(condition: str, *values: float | None, **more: Any) -> list[Record]:
    graph = PATH_STAR | more.pop("graph", {})
    return accuracy("path_star", graph, condition, *values, **(of("nextlat", 3) | more))


def test_path_star_columns() -> None:
    made = table(
        "path_star",
        [
            *path("decode=greedy", 0.5, 0.7),
            *path("decode=sampled", 0.4, 0.6),
            *path("decode=greedy,score=branch", 0.55, 0.75),
            *path("decode=sampled,score=branch", 0.1, 0.1),
            *path("", 0.8, 0.9, probe="teacher_forced"),
            *path("position=2", 0.1, 0.1, probe="teacher_forced"),
        ],
    )
    assert cells(made, "NextLat (d=3)") == {
        "Path, greedy %": "60.0 [0.0, 100.0]",
        "Path, sampled %": "50.0 [0.0, 100.0]",
        "Branch %": "65.0 [0.0, 100.0]",
        "Teacher-forced %": "85.0 [21.5, 100.0]",
        "Solved %": "0.0 [0.0, 65.8]",  # Wilson of 0 of 2
    }
    expected = ["GPT", "BST", "MTP", "JTP", "NextLat (d=3)", "True world model"]
    assert labels(made, block="laptop scale") == expected


def test_a_model_that_answers_in_parallel_has_the_same_columns() -> None:
    graph = {"variant": "teacherless"}
    parallel = path("decode=parallel", 0.9, graph=graph)
    made = table("path_star", parallel + path("decode=parallel,score=branch", 0.8, graph=graph))
    shown = cells(made, "NextLat (d=3)")
    assert shown["Path, greedy %"].startswith("90.0 ")
    assert shown["Branch %"].startswith("80.0 ")
    assert shown["Path, sampled %"] == DASH


@pytest.mark.parametrize(
    ("values", "says"),
    [
        # R: prop.test(4, 5, correct = FALSE)
        ((0.95, 1.0, 0.96, 0.949, 0.99), "80.0 [37.6, 96.4]"),
        ((0.95,), "100.0"),
        ((0.9499,), "0.0"),
        ((0.99, None), "100.0"),  # what is missing has not failed
        ((None, None), DASH),
    ],
)
def test_the_share_of_seeds_that_solved_it(values: tuple[float | None, ...], says: str) -> None:
    made = table("path_star", path("decode=greedy", *values))
    assert cells(made, "NextLat (d=3)")["Solved %"] == says


def test_each_seed_has_solved_it_or_not() -> None:
    made = table("path_star", path("decode=greedy", 0.99, 0.5))
    solved = [cells(made, "NextLat (d=3)", f"seed {i}")["Solved %"] for i in (0, 1)]
    assert solved == ["100.0", "0.0"]
    lines = list(csv.DictReader(io.StringIO(made.csv())))
    [line] = [
        x for x in lines if (x["source"], x["column"], x["seeds"]) == ("measured", "Solved %", "2")
    ]
    assert (float(line["value"]), line["n"]) == (50.0, "2")  # its trials are seeds


def test_path_star_headings() -> None:
    runs = [
        *path("decode=greedy", 0.1),
        *path("decode=greedy", 0.2, graph={"variant": "reverse"}),
        *path("decode=greedy", 0.3, graph={"num_train": 200_000}),
        *path("decode=greedy", 0.4, graph={"heldout": 0.2}),
    ]
    assert set(blocks(table("path_star", runs))) - set(PAPER_GRAPHS) == {
        "laptop scale, G(2,5), 20 ids, heldout=none",
        "laptop scale, G(2,5), 20 ids, heldout=0.2",
        "laptop scale, G(2,5), 20 ids, reverse",
        "laptop scale, G(2,5), 20 ids, 200,000 graphs",
    }


def test_the_papers_numbers_stand_beside_the_very_same_graph() -> None:
    same = {"degree": 5, "length": 5, "num_nodes": 100}
    runs = [
        *path("decode=greedy", 0.5),
        *path("decode=sampled", 0.6, graph=same),
        *path("decode=sampled", 0.7, graph=same | {"num_nodes": 50}),
        *path("decode=sampled", 0.8, graph=same | {"variant": "reverse"}),
    ]
    made = table("path_star", runs)
    ours = "laptop scale, G(5,5), 100 ids"
    assert blocks(made)[-2:] == [PAPER_GRAPHS[0], PAPER_GRAPHS[2]]
    assert {r.block for r in made.rows if r.source == "paper"} == {ours, *blocks(made)[-2:]}
    their = cells(made, "NextLat", "paper", ours)
    assert their == dict.fromkeys(their, DASH) | {"Path, sampled %": "99.8"}
    assert cells(made, "GPT", "paper", PAPER_GRAPHS[2])["Path, sampled %"] == "12.6"
    dashes = [row for row in made.rows if row.block in PAPER_GRAPHS and row.source != "paper"]
    assert {text for row in dashes for lines in made.lines(row) for text in lines} == {DASH}
    assert not any(note.startswith("paper, G") for note in made.notes)


def test_a_reason_is_said_once_for_all_columns_and_seeds() -> None:
    lost = [
        *path("decode=greedy", None, None, skipped_because="RUN has no answer"),
        *path("decode=greedy,score=branch", None, None, skipped_because="RUN has no answer"),
    ]
    renamed = [r for r in lost if r.skipped_because]
    for r in renamed:
        object.__setattr__(r, "skipped_because", r.skipped_because.replace("RUN", r.run))
    notes = [note for note in table("path_star", renamed).notes if "no value" in note]
    assert notes == [
        "Path, greedy %; Branch %; Solved %: no value for NextLat (seeds 0, 1) (it has no answer)."
    ]


# ---- Countdown


def test_countdown_columns() -> None:
    values = {"kind=heldout": 0.1, "kind=seen": 0.2}
    values |= {"score=equations,kind=heldout": 0.3, "score=released,kind=heldout": 0.4}
    values |= {"score=equations,kind=seen": 0.9, "score=released,kind=seen": 0.9}
    runs = [
        record
        for where, value in values.items()
        for decode, off in (("greedy", 0.0), ("sampled", 0.05))
        for record in accuracy(
            "countdown", COUNTDOWN, f"decode={decode},{where}", value + off, **of("gpt")
        )
    ]
    made = table("countdown", runs)
    assert blocks(made) == ["laptop scale, 3 inputs of 1 to 60, targets 10 to 99, 200,000 problems"]
    assert {heading: text.split()[0] for heading, text in cells(made, "GPT").items()} == {
        "Held-out targets %": "10.0",
        "Seen targets %": "20.0",
        "Equations valid %": "30.0",
        "Released reading %": "40.0",
    }
    theirs = cells(made, "GPT", "paper")
    assert theirs == dict.fromkeys(theirs, DASH) | {"Released reading %": "33.1"}
    assert "loose checker" in "\n".join(made.notes)


def test_countdown_says_what_each_has_more_than_gpt_by_seed() -> None:
    """Each seed holds out targets of its own: three gaps of 4, 6 and 2 points, whatever the seeds
    have in common; a seed that GPT lacks does not count."""
    where = "decode=greedy,kind=heldout"
    runs = [
        *accuracy("countdown", COUNTDOWN, where, 0.3, 0.2, 0.1, **of("gpt")),
        *accuracy("countdown", COUNTDOWN, where, 0.34, 0.26, 0.12, 0.9, **of("nextlat", 1)),
        *accuracy("countdown", COUNTDOWN, where, 0.4, **of("mtp", 1)),
        *accuracy("countdown", COUNTDOWN, where, 1.0, 1.0, **of("oracle")),
    ]
    (note,) = [note for note in table("countdown", runs[::-1]).notes if "seed by seed" in note]
    assert note == (
        "Held-out targets %, less GPT's, seed by seed, since seeds have items of their own: "
        "NextLat (d=1) 4.0 (4.0, 6.0, 2.0)."
    )
    assert not [n for n in table("countdown", runs[3:]).notes if "seed by seed" in n]
    assert not [n for n in table("a5", EVERYTHING).notes if "seed by seed" in n]


def test_countdown_rows_by_horizon() -> None:
    """Each beside the paper's of the same horizon, ours first, a dash where we have none."""
    where = "decode=greedy,kind=heldout"
    runs = [
        *accuracy("countdown", COUNTDOWN, where, 0.3, **of("mtp", 4)),
        *accuracy("countdown", COUNTDOWN, where, 0.35, **of("mtp", 12)),
        *accuracy("countdown", COUNTDOWN, where, 0.4, **of("nextlat", 8)),
    ]
    made = table("countdown", runs)
    shown = [
        (row.label, row.source, made.lines(row)[3 if row.source == "paper" else 0][0])
        for row in made.rows
        if row.objective in ("mtp", "nextlat") and not row.source.startswith("seed")
    ]
    assert shown == [
        ("MTP (d=1)", "measured", DASH),
        ("MTP (d=1)", "paper", "39.2"),
        ("MTP (d=4)", "measured", "30.0"),
        ("MTP (d=4)", "paper", "49.7"),
        ("MTP (d=8)", "measured", DASH),
        ("MTP (d=8)", "paper", "57.3"),
        ("MTP (d=12)", "measured", "35.0"),
        ("NextLat (d=1)", "measured", DASH),
        ("NextLat (d=1)", "paper", "54.8"),
        ("NextLat (d=4)", "measured", DASH),
        ("NextLat (d=4)", "paper", "57.6"),
        ("NextLat (d=8)", "measured", "40.0"),
        ("NextLat (d=8)", "paper", "58.7"),
    ]


# ---- A5


def words(
    condition: str, value: float | None, metric: str = "accuracy", **more: Any
) -> list[Record]:
    probe = {"task": "a5", "probe": "length_generalization", "metric": metric}
    about = {"task_parameters": A5, "condition": condition} | of("nextlat", 1)
    return seeds(value, **(probe | about | more))


@pytest.mark.parametrize("taught", [12, 5])
def test_a5_columns_follow_the_training_length(taught: int) -> None:
    runs = [
        *words(f"reading=trunk,length={taught}", 0.1),
        *words(f"reading=trunk,length={3 * taught}", 0.2),
        *words(f"reading=recurrent,length={taught}", 0.3),
        *words(f"reading=recurrent,length={3 * taught}", 0.4),
        *words(f"reading=recurrent,length={20 * taught}", 0.5),
        *words(f"reading=recurrent,length={3 * taught}", 0.6, "whole"),
        *words("reading=trunk", 13, "reach", low=12, high=14),
        *words("reading=recurrent", 240, "reach", low=200, high=240),
        *words(f"reading=unclocked,length={3 * taught}", 0.7, probe="clock"),
        *words("reading=unclocked", 99, "reach", low=90, high=99, probe="clock"),
        *words("", 0.0123, "position_share", low=0.01, high=0.02, probe="clock"),
        *words(f"reading=trunk,length={3 * taught}", 0.9, "whole"),
        *words(f"reading=trunk,length={3 * taught + 1}", 0.9),
    ]
    runs = [replace(r, task_parameters=A5 | {"length": taught}) for r in runs]
    made = table("a5", runs)
    shown = cells(made, "NextLat (d=1)", "measured", "laptop")
    assert {heading: text.split(" ")[0] for heading, text in shown.items()} == {
        "Trunk at 1x %": "10.0",
        "Trunk at 3x %": "20.0",
        "Recurrent at 1x %": "30.0",
        "Recurrent at 3x %": "40.0",
        "Recurrent at 20x %": "50.0",
        "Whole word at 3x, recurrent %": "60.0",
        "Reach, trunk": "13",
        "Reach, recurrent": "240",
        "Unclocked at 3x %": "70.0",
        "Reach, unclocked": "99",
        "Share of position %": "1.23",
    }
    assert shown["Reach, trunk"] == "13 [12, 14]"
    assert blocks(made)[0] == f"laptop scale, A5, length {taught}"


def test_without_a_recurrent_reading_there_is_a_dash() -> None:
    why = {"skipped_because": "r0 predicts no next hidden state", "low": None, "high": None}
    runs = words("reading=trunk,length=12", 0.9, **of("gpt"))
    runs += words("reading=recurrent,length=12", None, n=0, **why, **of("gpt"))
    shown = cells(table("a5", runs), "GPT", "measured")
    assert shown == dict.fromkeys(shown, DASH) | {"Trunk at 1x %": "90.0 [88.0, 92.0]"}


def test_the_papers_bound() -> None:
    """Above 95% at three times the length, of A5 at length 12 alone."""
    for parameters, where in (({}, "laptop"), ({"group": "S3"}, "paper"), ({"length": 8}, "paper")):
        made = table("a5", words("reading=trunk,length=12", 0.9, task_parameters=A5 | parameters))
        assert [r.block.split()[0].rstrip(",") for r in made.rows if r.source == "paper"] == [where]
        theirs = cells(made, "NextLat", "paper")
        assert theirs == dict.fromkeys(theirs, DASH) | {"Recurrent at 3x %": "> 95.0"}
        assert ("paper, A5, length 12: not trained here" in blocks(made)) == (where == "paper")
    lines = csv.DictReader(io.StringIO(made.csv()))
    [line] = [x for x in lines if x["source"] == "paper" and x["low"]]
    assert (line["value"], line["low"], line["high"], line["seeds"]) == ("", "95.0", "", "")


def test_a5_rows() -> None:
    made = table("a5", a5_records())
    assert labels(made) == [
        *("GPT", "MTP (d=1)", "JTP (d=1)", "NextLat (d=1)"),
        *("NextLat, closed states", "NextLat, stationary states", "NextLat, noisy states"),
        *("GRU", "True world model"),
    ]


# ---- all of them


@pytest.mark.parametrize("name", ["path_star", "countdown", "a5"])
def test_without_records_there_are_the_papers_numbers(name: str) -> None:
    made = table(name, [])
    theirs = {row.block for row in made.rows if row.source == "paper"}
    assert theirs == set(blocks(made))
    assert {
        "path_star": PAPER_GRAPHS,
        "countdown": ["nothing measured yet"],
        "a5": ["paper, A5, length 12: not trained here"],
    }[name] == blocks(made)
    number = {"path_star": "94.3", "countdown": "58.7", "a5": "95.0"}[name]
    for text in (made.markdown(), made.latex(), made.csv(), text_of(made.terminal())):
        assert number in text
    assert all(row.num_seeds == 0 for row in made.rows)


@pytest.mark.parametrize("name", ["path_star", "countdown", "a5"])
def test_same_bytes_in_any_order(name: str) -> None:
    made = table(name, EVERYTHING)
    shuffled = random.Random(0).sample(EVERYTHING, len(EVERYTHING))
    again = table(name, shuffled)
    assert again == made
    assert again.csv() == made.csv()
    assert again.markdown() == made.markdown()
    assert again.latex() == made.latex()
    assert text_of(again.terminal()) == text_of(made.terminal())


@pytest.mark.parametrize("name", ["path_star", "countdown", "a5"])
def test_every_renderer_shows_every_column(name: str) -> None:
    made = table(name, EVERYTHING)
    lines = [line for line in made.markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(made.columns) + 3}
    rows = [line for line in made.latex().splitlines() if " & " in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(made.columns) + 1}
    assert made.summary() in made.markdown()
    assert "seed 0" not in made.summary()
    assert not made.summary().startswith("## ")
    rows = [row for block in made.blocks(seeds=False).values() for row in block]
    numbers = {word for row in rows for lines in made.lines(row) for word in lines[0].split()}
    for width in (40, 80, 100):
        text = text_of(made.terminal(width), width)
        assert max(map(len, text.splitlines())) <= width
        assert numbers <= set(text.split())  # none is broken in two


def test_a_reach_is_that_of_the_middle_seed() -> None:
    """Between the least and the largest: no length is reached that no seed reaches."""
    probe = {"task": "a5", "probe": "length_generalization", "metric": "reach"}
    about = {"task_parameters": A5, "condition": "reading=trunk"} | of("nextlat", 1)
    shown = cells(table("a5", seeds(12.0, 3.0, 200.0, **probe | about)), "NextLat (d=1)")
    assert shown["Reach, trunk"] == "12 [3, 200]"
