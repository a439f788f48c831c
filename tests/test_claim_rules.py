"""Verdicts by a rule of their own: who solves every graph, data, horizons, numbers, speed."""

from dataclasses import replace
from typing import Any

import pytest
from claim_records import (
    ALL,
    HIGH,
    LOW,
    NONE,
    ONE_FAILS,
    STARS,
    lines,
    outcomes,
    stars,
    verdict,
)
from report_records import COUNTDOWN, PATH_STAR, a5_records, of, seeds

from nextlat_bench.report.claims import claims_sheet
from nextlat_bench.report.columns import DASH
from nextlat_bench.report.records import Record
from nextlat_bench.report.shipped import committed_benchmarks
from nextlat_bench.report.verdicts import claims


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((ALL, ALL), (ALL, NONE), "holds"),
        ((ALL, ALL), (NONE, ONE_FAILS), "holds"),  # solved is solved by every seed
        ((ALL, ALL), (ALL, ALL), "not testable at this scale"),
        ((NONE, NONE), (NONE, NONE), "not testable at this scale"),
        ((ALL, NONE), (NONE, NONE), "holds in part"),
        ((ALL, NONE), (ALL, NONE), "does not hold here"),
        ((ALL, ONE_FAILS), (ALL, ALL), "does not hold here"),
        ((NONE, NONE), (NONE, ALL), "does not hold here"),
        ((ALL[:2], ALL), (NONE, NONE), "not enough seeds"),
        ((ALL, ALL), (NONE, NONE[:2]), "not enough seeds"),
        ((ALL, NONE), (NONE, NONE[:2]), "holds in part"),  # whatever they do there
        ((ALL, NONE), (ALL, NONE[:2]), "not enough seeds"),
    ],
)
def test_who_solves_every_graph(ours: Any, theirs: Any, expected: str) -> None:
    assert verdict(stars(ours, theirs), "path-star") == expected


def test_whoever_else_solves_every_graph_takes_the_only_away() -> None:
    records = stars((ALL, ALL), (NONE, NONE))
    others = [r for r in records if r.objective != "bst"]
    bst = [r for r in stars((NONE, NONE), (ALL, ALL)) if r.objective == "bst"]
    assert verdict(records, "path-star") == "holds"
    assert verdict([*others, *bst], "path-star") == "holds in part"


def test_one_graph_is_not_every_graph() -> None:
    assert verdict(stars((ALL,), (NONE,), STARS[:1]), "path-star") == "incomplete"


def test_data_efficiency_is_of_fixed_training_sets() -> None:
    """Without them there is no verdict on it, and with them none on solving every graph."""
    small, large = (PATH_STAR | {"num_train": n} for n in (1_000, 10_000))
    assert verdict(stars((ALL, ALL), (NONE, NONE)), "data") == "not measured yet"
    fixed = stars((ALL, ALL), (NONE, NONE), (small, large))
    assert verdict(fixed, "data") == "holds"
    assert verdict(fixed, "path-star") == "incomplete"  # one graph is not every graph
    other = PATH_STAR | {"degree": 3, "num_train": 200_000}
    papers = stars((ALL, ALL), (NONE, NONE), (large, other))  # one size each, as the paper has it
    assert verdict(papers, "path-star") == "holds"
    assert verdict(papers, "data") == "not measured yet"
    # of sizes of one graph the largest is the one to be solved; afresh is larger than any
    sizes = stars((NONE, ALL, ALL), (NONE, NONE, NONE), (small, large, other))
    assert verdict(sizes, "path-star") == "holds"
    afresh = stars((ALL, NONE, ALL), (NONE, NONE, NONE), (PATH_STAR, large, other))
    assert verdict(afresh, "path-star") == "holds"
    assert verdict(stars((ALL, NONE), (NONE, NONE), (small, large)), "data") == "holds in part"
    assert verdict(stars((ALL,), (NONE,), (small,)), "data") == "not measured yet"


def said(records: Any, name: str) -> list[str]:
    """The verdict on a claim, and what was compared for it."""
    brief, full, _ = claims_sheet(records, {}).grids
    at = [claim.name for claim in claims()].index(name)
    return [brief.rows[at][-1].split("\n")[0], *full.rows[at][-1].split("\n")]


def test_verdicts_say_what_they_rest_on() -> None:
    """In a fixed order, what was not compared apart; of graphs who solves how many."""
    small, large = (PATH_STAR | {"num_train": n} for n in (1_000, 10_000))
    records = stars((ALL, ALL), (ALL, NONE), (small, large))
    assert said(records, "data")[1] == "8 compared: 4 ahead, 4 not told apart"
    lone = [r for r in records if r.objective in ("nextlat", "gpt")]
    short = "2 compared: 1 ahead, 1 not told apart; 6 missing"
    assert said(lone, "data")[1] == short
    assert said(records, "a5") == ["not measured yet", DASH]
    two = stars((ALL, ALL), (NONE, ALL))
    solved = "graphs solved, of 2: NextLat 2, GPT 1, BST 1, MTP 1, JTP 1"
    assert said(two, "path-star") == ["holds", solved]
    assert (
        said([r for r in two if r.objective != "bst"], "path-star")[1]
        == "8 compared: 5 solved, 3 not solved; 2 missing"
    )


def test_countdown_is_of_horizon_one() -> None:
    probe = {"task": "countdown", "task_parameters": COUNTDOWN, "probe": "accuracy"}
    probe |= {"metric": "accuracy", "condition": "decode=greedy,kind=heldout"}
    rows = [r for name in ("gpt", "bst") for r in seeds(*LOW, **of(name), **probe)]
    rows += [r for name in ("mtp", "jtp") for r in seeds(*LOW, **of(name, 1), **probe)]
    far = seeds(*HIGH, 0.98, **of("nextlat", 8), **probe)
    assert verdict([*rows, *far], "countdown") == "not measured yet"
    near = seeds(*HIGH, **of("nextlat", 1), **probe)
    assert verdict([*rows, *far, *near], "countdown") == "holds"
    better = seeds(*HIGH, 0.98, **of("mtp", 8), **probe)  # looks further ahead: not compared
    assert verdict([*rows, *near, *better], "countdown") == "holds"


def test_a5_is_asked_for_ninety_five_percent_and_for_more_than_a_trunk() -> None:
    records = a5_records()  # recurrently 86%, 80% and 75% at three times the length
    assert verdict(records, "a5") == "mixed"
    assert outcomes(records, "a5") == ["behind", "ahead"]

    def raised(record: Record) -> Record:
        is_it = (record.objective, record.condition) == ("nextlat", "reading=recurrent,length=36")
        value = 0.97 + 0.01 * record.seed
        return replace(record, value=value, low=value, high=value) if is_it else record

    assert verdict(map(raised, records), "a5") == "holds"
    assert verdict([r for r in records if r.seed < 2], "a5") == "not enough seeds"


def test_decoding_is_faster_than_plain_and_than_the_others() -> None:
    def drafts(name: str, horizon: int, *values: float, kind: str = "prose") -> list[Record]:
        probe = {"task": "language", "task_parameters": {}, "probe": "speculation_speed"}
        probe |= {"metric": "speedup", "condition": f"draft=5,batch=1,kind={kind}"}
        return seeds(*values, **probe, **of(name, horizon), probe_parameters={"sampled": False})

    def both(prose: float, code: float, rival: float = 1.2) -> list[Record]:
        near = (-0.01, 0.0, 0.01)
        ours = [
            drafts("nextlat", 1, *(prose + d for d in near)),
            drafts("nextlat", 1, *(code + d for d in near), kind="code"),
        ]
        others = [
            drafts(name, 1, *(rival + d for d in near), kind=kind)
            for name in ("mtp", "jtp")
            for kind in ("prose", "code")
        ]
        return [r for group in (*ours, *others) for r in group]

    assert verdict(both(1.5, 1.6), "decoding") == "holds"
    assert verdict(both(1.5, 0.9), "decoding") == "mixed"
    assert verdict(both(0.8, 0.9), "decoding") == "does not hold here"
    assert verdict(both(1.5, 1.6, rival=2.0), "decoding") == "mixed"


def timed(**ratios: list[float]) -> dict[str, Any]:
    sizes = {k: {"NextLat d=1": {"ratio": v, "ratio_to": "GPT"}} for k, v in ratios.items()}
    return {"machine": "a machine", "other": {"fp32": 3.0}, **sizes}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (timed(small=[0.9, 1.0, 1.09], large=[1.0, 1.02, 1.05]), "holds"),
        (timed(small=[0.9, 1.0, 1.09], large=[1.2, 1.3, 1.4]), "mixed"),
        (timed(small=[0.9, 1.05, 1.2]), "undecided"),
        (timed(small=[1.02, 1.05, 1.2]), "undecided"),  # a little slower, as the margin allows
        (timed(small=[1.2, 1.3, 1.4]), "does not hold here"),
        (timed(), "not measured yet"),
    ],
)
def test_training_speed_is_read_from_the_benchmark(facts: Any, expected: str) -> None:
    assert verdict([], "training", training=facts) == expected


def test_a_step_in_units_of_somebody_elses_is_not_compared() -> None:
    facts = timed(small=[0.9, 1.0, 1.05], large=[1.2, 1.3, 1.4])
    facts["large"]["NextLat d=1"]["ratio_to"] = "MTP"
    assert verdict([], "training", training=facts) == "holds"


def test_sizes_of_a_benchmark_are_shown_from_the_fastest_to_the_slowest() -> None:
    facts = timed(small=[1.2, 1.3, 1.4], large=[0.9, 0.95, 1.0])
    brief = claims_sheet([], {"training": facts}).grids[0]
    [row] = [row for row in brief.rows if row[0].startswith("Trains as fast")]
    its = "Step time relative to GPT's: 0.95 to 1.30 (rounds of a benchmark, no seeds)"
    assert row[2] == its


def test_of_three_seeds_one_solves_it() -> None:
    """33.3% of three is one, not none."""
    records = stars((ALL, ALL), ((1.0, 0.5, 0.5), NONE))
    assert "GPT 1 of 3, 0 of 3" in claims_sheet(records, {}).grids[1].rows[5][2].splitlines()


def test_the_committed_benchmark_has_what_is_asked_for() -> None:
    made = claims_sheet([], committed_benchmarks())
    assert len(lines(made, "training")) == 5  # three of `training`, two of `cost`
    assert any(note.startswith("training: measured on ") for note in made.notes)


def test_a_budget_that_a_record_lacks_is_none() -> None:
    """Rivals of before a field came are of NextLat's budget, where it has the default."""
    later = {"row_length": None, "steps": 2000, "learning_rate": 0.003}
    records = stars((ALL, ALL), (NONE, NONE))
    newer = [replace(r, training=later) if r.objective == "nextlat" else r for r in records]
    assert verdict(newer, "path-star") == verdict(records, "path-star") == "holds"
