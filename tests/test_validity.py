"""The page on the probes' own validity: what is known, what is measured, and how it is judged."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_records import of, record, seeds, text_of

from nextlat_bench import registry
from nextlat_bench.job import Asked, measure_known
from nextlat_bench.known import KNOWN
from nextlat_bench.report.columns import DASH
from nextlat_bench.report.layouts import DETOUR
from nextlat_bench.report.records import Record, committed
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.shipped import committed_known
from nextlat_bench.report.validity import (
    NOTES,
    Reading,
    known_records,
    passes,
    readings,
    validity_sheet,
)
from nextlat_bench.taggers import OF_WORDS


def lines(made: Sheet) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.csv())))


# ---- the committed page


def test_everything_measured_is_what_must_come_out() -> None:
    made = validity_sheet(committed(), committed_known())
    judged = [line["as_known"] for line in lines(made) if line["as_known"]]
    asked = sum(len(reading.known) for reading in readings())
    assert judged == ["yes"] * asked
    assert made.notes[0] == f"{asked} of {asked} readings are what must come out."
    assert "FAILS" not in made.markdown()


def test_every_subject_and_every_probe_that_can_be_asked_is_there() -> None:
    subjects = {name for reading in readings() for name in reading.known}
    assert subjects == {*KNOWN, *OF_WORDS}
    asked = {reading.probe for reading in readings()}
    others = set(registry.names("probes")) - asked
    [note] = [note for note in NOTES if note.startswith("Not here: ")]
    assert {name for name in registry.names("probes") if name in note.replace(",", "").split()} == (
        others
    )


def test_readings_have_metrics_that_there_are() -> None:
    for reading in readings():
        probe = registry.load("probes", reading.probe)
        assert reading.metric in {metric.name for metric in probe.metrics}
        assert set(reading.parameters) <= set(registry.parameters(probe()))
        assert len({r.label for r in readings() if r.task == reading.task}) == len(
            [r for r in readings() if r.task == reading.task]
        )


def tells(reading: Reading, subject: str) -> bool | None:
    """Does the known answer tell the subject from the true world model? None: not asked."""
    known, truth = reading.known.get(subject), reading.known.get("oracle")
    if known in (None, "-", "=") or isinstance(known, list):
        return None if known in (None, "-") else False
    return known in ("<", ">") or known != truth


@pytest.mark.parametrize("name", sorted({reading.probe for reading in readings()}))
def test_known_answers_are_what_the_probe_says_it_catches_and_misses(name: str) -> None:
    probe = registry.load("probes", name)
    mine = [r for r in readings() if r.probe == name and r.parameters.get("protocol") != "released"]
    greedy = [r for r in mine if "sampled" not in r.condition or name != "accuracy"]
    for subject in probe.catches:
        assert any(tells(reading, subject) for reading in mine), subject
    for subject in probe.misses:
        assert not any(tells(reading, subject) for reading in greedy), subject


# a task, a subject and probes that take a moment; together they generate, compress and read states
SMALL = [
    ("taxi", "history_hash", ["compression", "trajectories"]),
    ("path_star", "clever_hans", ["accuracy", "teacher_forced"]),
    ("a5", "drifting", ["length_generalization", "rank"]),
]


@pytest.mark.parametrize(("task", "subject", "probes"), SMALL)
def test_measured_again_it_is_the_same(
    task: str, subject: str, probes: list[str], tmp_path: Path
) -> None:
    run = registry.load("presets", task).run("gpt", "laptop")
    again = known_records(measure_known(subject, run, tmp_path, Asked(probes=probes)))
    mine = [r for r in committed_known() if (r.task, r.objective) == (task, subject)]
    before = {r.what: r for r in mine if r.probe in probes}
    assert {r.what for r in again} == set(before)
    for r in again:
        then = before[r.what]
        assert r.value == pytest.approx(then.value, rel=1e-9)
        assert replace(r, value=None, low=None, high=None) == replace(
            then, value=None, low=None, high=None
        )
    assert {p for r in again for p in [r.probe_parameters.get("protocol")] if p} == (
        {"precision", "released"} if task == "taxi" else set()
    )


# ---- the judgement


def made_up(value: float | None, low: float | None, high: float | None) -> Record:
    return record(value=value, low=low, high=high, task_parameters={"degree": 4, "length": 12})


TRUTH = made_up(0.6, 0.55, 0.65)
ONE, NEARLY_ONE = made_up(1.0, 0.99, 1.0), made_up(0.999, 0.99, 1.0)


@pytest.mark.parametrize(
    ("known", "found", "expected"),
    [
        (None, ONE, None),
        (1, ONE, True),
        (1, NEARLY_ONE, False),  # exactly
        (0, made_up(0.001, 0.0, 0.01), False),
        (0, made_up(0.0, 0.0, 0.01), True),
        ("-", made_up(None, None, None), True),
        ("-", ONE, False),
        (1, made_up(None, None, None), False),
        ("<", made_up(None, None, None), False),
        ("<", made_up(0.4, 0.3, 0.54), True),
        ("<", made_up(0.4, 0.3, 0.55), False),  # the intervals touch
        ("<", ONE, False),
        (">", ONE, True),
        (">", made_up(0.7, 0.65, 0.8), False),
        ("=", made_up(0.62, 0.57, 0.66), True),
        ("=", made_up(0.66, 0.60, 0.72), False),  # too far
        ("=", made_up(0.56, 0.55, 0.57), True),
        ("=", made_up(0.54, 0.53, 0.545), False),  # near, but below
        ([0.9, 1], ONE, True),
        ([0.9, 1], made_up(0.89, 0.8, 0.95), False),
        ("1/degree", made_up(0.27, 0.26, 0.28), True),
        ("1/degree", made_up(0.28, 0.27, 0.29), False),
        ("1/degree", made_up(0.23, 0.22, 0.235), False),
        ("1/60", made_up(0.0, 0.0, 0.01), True),
        ("length", made_up(12.0, 12.0, 12.0), True),
        ("length", made_up(11.0, 11.0, 11.0), False),
        (2, made_up(2.0, None, None), True),
    ],
)
def test_judgement(known: Any, found: Record, expected: bool | None) -> None:
    assert passes(known, found, TRUTH) is expected


def test_near_the_truth_but_clearly_another() -> None:
    assert passes("=", made_up(0.57, 0.56, 0.58), made_up(0.6, 0.59, 0.61)) is False


def test_without_an_oracle_comparisons_say_nothing() -> None:
    for known in ("<", ">", "="):
        assert passes(known, ONE, None) is None
        assert passes(known, ONE, made_up(None, None, None)) is None


def test_what_is_wrong_is_shown_as_wrong() -> None:
    def worse(r: Record) -> Record:
        is_it = (r.task, r.objective, r.probe) == ("taxi", "noisy_state", "compression")
        released = r.probe_parameters.get("protocol") == "released"
        return replace(r, value=0.5, low=0.4, high=0.6) if is_it and not released else r

    made = validity_sheet([], map(worse, committed_known()))
    wrong = [line for line in lines(made) if line["as_known"] == "no"]
    assert [(w["reading"], w["subject"], w["known"]) for w in wrong] == [
        ("compression", "noisy_state", "1")
    ]
    for text in (made.markdown(), made.latex(), text_of(made.terminal())):
        assert text.count("(1) FAILS") == 1
    asked = sum(len(reading.known) for reading in readings())
    assert made.notes[0].startswith(f"{asked - 1} of {asked} readings")


def test_records_of_ones_own_come_first_and_an_oracle_alone_is_no_matrix() -> None:
    own = [
        replace(r, run=f"{r.objective}-smoke", scale="smoke")
        for r in committed_known()
        if r.task == "a5"
    ]
    made = validity_sheet(own, committed_known())
    assert [grid.heading for grid in made.grids] == ["a5, smoke scale, A5, length 12"]
    elsewhere = [r for r in committed_known() if (r.task, r.objective) == ("a5", "oracle")]
    assert len(validity_sheet([*own, *elsewhere]).grids) == 1
    alone = [r for r in own if r.objective == "oracle"]
    assert len(validity_sheet(alone, committed_known()).grids) == 4
    assert validity_sheet(alone).grids == ()
    assert validity_sheet(alone).notes[0].startswith("Nothing is measured yet")
    lone = [
        r
        for r in committed_known()
        if (r.task, r.objective, r.probe) == ("taxi", "wrong_map", "trajectories")
    ]
    assert validity_sheet(lone).notes[0].startswith("Nothing here can be judged: probe the oracle")


# ---- published readings


def test_published_readings_stand_beside_the_definitions() -> None:
    who = of("nextlat", 1)
    released = {"probe": "compression", "metric": "precision"}
    rank = {"probe": "rank", "probe_parameters": {"positions": "all"}}
    records = [
        *seeds(0.9, 0.92, **who),
        *seeds(0.5, 0.52, **who, metric="reached"),
        *seeds(0.8, 0.82, **who, probe="detours", condition=DETOUR[0]),
        *seeds(0.4, 0.42, **who, **released, probe_parameters={"protocol": "precision"}),
        *seeds(0.7, 0.72, **who, **released, probe_parameters={"protocol": "released"}),
        *seeds(40.0, 42.0, **who, **rank, metric="effective_rank"),
        *seeds(90.0, 92.0, **who, **rank, metric="effective_rank_embedding"),
        *seeds(1.0, **of("oracle")),
    ]
    [grid] = validity_sheet(records).grids
    assert grid.heading.startswith("Published readings: taxi, laptop scale, heliopolis")
    [row] = grid.rows
    shown = dict(zip(grid.head, (cell.partition("\n")[0] for cell in row), strict=True))
    assert shown == {
        "Model": "NextLat (d=1)",
        "Seeds": "2",
        "Reached %": "51.0",
        "Legal, published %": "91.0",
        "Detours reached %": DASH,
        "Detours legal, published %": "81.0",
        "Compression": "0.41",
        "Compression, published": "0.71",
        "Rank of hidden states": "41.0",
        "Rank of embeddings, published": "91.0",
    }


def test_published_readings_of_fewer_seeds_than_their_row_say_so() -> None:
    rank = {"probe": "rank", "probe_parameters": {"positions": "all"}, **of("gpt")}
    records = [
        *seeds(40.0, 42.0, 44.0, **rank, metric="effective_rank"),
        *seeds(90.0, 92.0, **rank, metric="effective_rank_embedding"),
    ]
    made = validity_sheet(records)
    [grid] = made.grids
    assert made.notes[-1] == (
        f"{grid.heading}: Rank of embeddings, published: 2 of the 3 seeds of GPT."
    )


def test_it_is_the_same_in_any_order_and_fits_a_narrow_terminal() -> None:
    made = validity_sheet(committed(), committed_known())
    again = validity_sheet(committed()[::-1], committed_known()[::-1])
    assert (made.markdown(), made.latex(), made.csv()) == (
        *(again.markdown(), again.latex(), again.csv()),
    )
    shown = text_of(made.terminal(80), width=80)
    assert max(map(len, shown.splitlines())) <= 80
    assert "everything" in shown  # no name is cut
