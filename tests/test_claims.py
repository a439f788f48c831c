"""Verdicts on the paper's claims, from records that are made up for each of them."""

import random
from dataclasses import replace
from typing import Any

import pytest
from claim_records import (
    ALL,
    BESIDE,
    COMPRESSION,
    HIGH,
    LOW,
    MIDDLE,
    NONE,
    RANK,
    RIVALS,
    driving,
    lines,
    measured,
    outcomes,
    sheet,
    stars,
    verdict,
)
from report_records import STREETS, TAXI, a5_records, of, seeds, text_of

from nextlat_bench.report.claims import RULE
from nextlat_bench.report.columns import DASH
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.published import published
from nextlat_bench.report.records import Record
from nextlat_bench.report.verdicts import SEEDS, claims

# ---- each verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (HIGH, (LOW, LOW, LOW), "holds"),
        (HIGH, (LOW, MIDDLE, LOW), "holds in part"),
        (HIGH, (LOW, HIGH, LOW), "holds in part"),  # a tie is no lead
        (HIGH, (HIGH, HIGH, HIGH), "undecided"),  # nobody is told apart
        (MIDDLE, (HIGH, HIGH, HIGH), "undecided"),  # 0.02 +- 0.023
        (LOW, (LOW, HIGH, LOW), "does not hold here"),  # behind one, ahead of nobody
        (LOW, (HIGH, HIGH, HIGH), "does not hold here"),
        (LOW, (HIGH, (0.1, 0.1, 0.1), HIGH), "mixed"),
        (LOW, (HIGH, (0.1, 0.1, 0.1), HIGH[:2]), "mixed"),  # whatever the last one will be
        (HIGH[:2], (LOW, LOW, LOW), "not enough seeds"),
        (HIGH, (LOW, LOW[:2], LOW), "not enough seeds"),
        (HIGH, (LOW, MIDDLE, LOW[:2]), "not enough seeds"),  # which could still be ahead
        (LOW, (HIGH, HIGH[:2], HIGH), "not enough seeds"),
        ((1.0, 1.0, 1.0), ((1.0, 1.0, 1.0),) * 3, "not testable at this scale"),
        ((0.0, 0.0, 0.0), ((0.0, 0.0, 0.0),) * 3, "not testable at this scale"),
        ((1.0, 1.0, 1.0), ((1.0, 1.0, 1.0), LOW, LOW), "holds"),  # what says nothing is left out
        (HIGH, ((0.0, 0.0, 0.0),) * 3, "holds"),
        ((0.0, 0.0, 0.0), (LOW, LOW, LOW), "does not hold here"),
    ],
)
def test_verdicts(ours: Any, theirs: Any, expected: str) -> None:
    records = measured(ours, **dict(zip(RIVALS, theirs, strict=True)))
    assert verdict(records, "compression") == expected


def test_an_interval_that_holds_zero_tells_nothing_apart() -> None:
    records = measured(MIDDLE, gpt=HIGH, mtp=MIDDLE, jtp=LOW)
    assert outcomes(records, "compression") == ["not told apart", "not told apart", "ahead"]
    touching = measured((0.9, 0.9, 0.9), gpt=(0.9, 0.9, 0.9), mtp=LOW, jtp=(0.95, 0.96, 0.97))
    assert outcomes(touching, "compression") == ["not told apart", "not told apart", "behind"]


def test_the_difference_stands_beside_the_outcome() -> None:
    """0.98 - 0.91, each +- 0.01 over three seeds: Welch's t of 4 degrees, 2.776 standard errors."""
    [line, *_] = lines(sheet(measured(HIGH, gpt=LOW, mtp=LOW, jtp=LOW)), "compression")
    far = 2.776445 * 0.01 * (2 / 3) ** 0.5
    assert float(line["difference"]) == pytest.approx(0.07)
    assert float(line["difference_low"]) == pytest.approx(0.07 - far)
    assert float(line["difference_high"]) == pytest.approx(0.07 + far)
    made = sheet(measured(HIGH, gpt=LOW, mtp=LOW, jtp=LOW))
    assert any("0.07 [0.05, 0.09]" in row for row in made.grids[2].rows)
    narrow = sheet(measured(HIGH, gpt=[v - 0.0247 for v in HIGH], mtp=LOW, jtp=LOW))
    assert any("0.025 [0.002, 0.047]" in row for row in narrow.grids[2].rows)  # not 0.00


def test_a_missing_objective_gives_no_verdict() -> None:
    for left_out in RIVALS:
        others = {name: LOW for name in RIVALS if name != left_out}
        assert verdict(measured(HIGH, **others), "compression") == "incomplete"
    nobody = measured((), gpt=LOW, mtp=LOW, jtp=LOW)
    assert verdict(nobody, "compression") == "not measured yet"
    assert verdict([], "compression") == "not measured yet"
    valueless = measured((None, None, None), gpt=LOW, mtp=LOW, jtp=LOW)
    assert verdict(valueless, "compression") == "not measured yet"


def test_three_seeds_with_values_are_needed() -> None:
    records = measured((0.98, None, 0.99), gpt=LOW, mtp=LOW, jtp=LOW)
    assert verdict(records, "compression") == "not enough seeds"


def test_of_a_rank_the_lower_one_is_better() -> None:
    def ranks(ours: float, theirs: float) -> list[Record]:
        found = driving(ours, ours + 1, ours + 2, what=RANK, **of("nextlat", 1))
        for name in RIVALS:
            values = (theirs, theirs + 1, theirs + 2)
            found += driving(*values, what=RANK, **of(name, 1 if name != "gpt" else None))
        return found

    assert verdict(ranks(50, 90), "rank") == "holds"
    assert verdict(ranks(90, 50), "rank") == "does not hold here"


def test_every_column_of_a_claim_counts() -> None:
    """Legal ahead of all, reached behind."""
    found = []
    for metric, ours, theirs in (("legal", HIGH, LOW), ("reached", LOW, HIGH)):
        found += seeds(*ours, **of("nextlat", 1), metric=metric)
        for name in RIVALS:
            found += seeds(*theirs, **of(name, None if name == "gpt" else 1), metric=metric)
    assert verdict(found, "world model") == "mixed"
    assert verdict([r for r in found if r.metric == "legal"], "world model") == "incomplete"


def test_budgets_are_equal() -> None:
    good = measured(HIGH, mtp=LOW, jtp=LOW)
    for longer in ({"step": 4000}, {"training": {"examples": 9}}, {"decoder": {"layers": 9}}):
        other = seeds(*LOW, **of("gpt") | COMPRESSION | longer)
        assert outcomes([*good, *other], "compression")[0] == "unequal budgets"
        assert verdict([*good, *other], "compression") == "incomplete"
    rate = {"training": {"steps": 2000, "learning_rate": 0.1}}  # each objective has its own
    assert verdict([*good, *driving(*LOW, **of("gpt") | rate)], "compression") == "holds"


def test_the_setting_of_most_seeds_counts() -> None:
    few = driving(0.1, 0.1, 0.1, **of("nextlat", 8))
    many = driving(*HIGH, 0.98, **of("nextlat", 1))
    records = [*few, *many, *measured((), gpt=LOW, mtp=LOW, jtp=LOW)]
    assert verdict(records, "compression") == "holds"


def test_collapse_is_no_lead() -> None:
    """One state for everything: the lowest rank and the best compression, and it drives nowhere."""
    rivals = measured((), gpt=LOW, mtp=LOW, jtp=LOW)
    collapsed = driving(*HIGH, legal=0.0, **of("nextlat", 1))
    assert outcomes([*collapsed, *rivals], "compression") == ["ahead, but it behaves worse"] * 3
    assert verdict([*collapsed, *rivals], "compression") == "does not hold here"
    unknown = seeds(*HIGH, **of("nextlat", 1), **COMPRESSION)
    assert verdict([*unknown, *rivals], "compression") == "not measured yet"


def test_of_settings_alike_none_is_picked() -> None:
    """Two learning rates of NextLat's, as many seeds each: whichever one took would be a choice."""
    rivals = measured((), gpt=LOW, mtp=LOW, jtp=LOW)
    rates = [{"training": {"steps": 2000, "muon_learning_rate": rate}} for rate in (0.01, 0.02)]
    both = [r for rate in rates for r in driving(*HIGH, **of("nextlat", 1) | rate)]
    assert outcomes([*both, *rivals], "compression") == ["several settings"] * 3
    near = driving(*HIGH, **of("nextlat", 1))
    far = driving(*LOW, **of("nextlat", 8))
    assert verdict([*near, *far, *rivals], "compression") == "holds"  # the least horizon's


def test_what_was_measured_otherwise_is_not_compared() -> None:
    """A rank over more positions is higher for that alone."""
    few, many = ({"probe_parameters": {"num_positions": n}} for n in (1_000, 60_000))
    ours = driving(10.0, 11.0, 12.0, what=RANK | few, **of("nextlat", 1))
    for theirs, expected in ((few, "ahead"), (many, "unequal protocols")):
        others = driving(50.0, 51.0, 52.0, what=RANK | theirs, **of("gpt"))
        assert outcomes([*ours, *others], "rank")[0] == expected


def test_rivals_of_the_same_horizon_count() -> None:
    best = seeds(*HIGH, 0.98, **of("mtp", 8), **COMPRESSION)
    assert verdict([*measured(HIGH, gpt=LOW, mtp=LOW, jtp=LOW), *best], "compression") == "holds"


def test_settings_are_judged_together_but_smoke() -> None:
    here = measured(HIGH, gpt=LOW, mtp=LOW, jtp=LOW)

    def elsewhere(*values: float, **changes: Any) -> list[Record]:
        rows = measured(values, gpt=HIGH, mtp=HIGH, jtp=HIGH)
        return [replace(r, run=f"{r.run}-x", **changes) for r in rows]

    other = {"task_parameters": TAXI | {"streets": STREETS | {"source": "manhattan"}}}
    assert verdict([*here, *elsewhere(*LOW, **other)], "compression") == "mixed"
    assert verdict([*here, *elsewhere(*LOW, scale="smoke")], "compression") == "holds"
    # begun, but without a complete comparison: it does not hold the verdict back
    begun = [r for r in elsewhere(*LOW, **other) if r.seed == 0]
    assert verdict([*here, *begun], "compression") == "holds"
    assert verdict(elsewhere(*LOW, scale="smoke"), "compression") == "not measured yet"


# ---- how it is shown


def test_every_claim_is_there_with_the_papers_numbers_and_the_rule() -> None:
    made = sheet(measured(HIGH, gpt=LOW, mtp=LOW, jtp=LOW))
    brief, full, _ = made.grids
    assert len(brief.rows) == len(full.rows) == len(claims()) == 11
    shown = {c.name: row[1:] for c, row in zip(claims(), brief.rows, strict=True)}
    assert shown["compression"] == (
        DASH,
        "Compression: 0.98 [0.96, 1.00], 3 seeds; GPT 0.91 [0.89, 0.93], 3 seeds",
        "holds\n3 ahead, 0 behind, of 3",
    )
    assert shown["countdown"] == ("54.8", DASH, "not measured yet")
    by_claim = {row[0]: row for row in full.rows}
    assert by_claim["rank"][1].splitlines() == [
        *("NextLat 52.7", "GPT 160.1", "MTP 57.7", "JTP 215.8", "(Table 1)")
    ]
    assert by_claim["countdown"][1].startswith("NextLat 54.8\nGPT 33.1\nBST 42.3\nMTP 39.2\nJTP 39")
    script = by_claim["compression, published"][1]  # which the paper's numbers are of
    assert script == "NextLat 0.71\nGPT 0.65\nMTP 0.64\nJTP 0.32\n(Table 1)"
    assert by_claim["compression"][1] == DASH
    assert by_claim["a5"][1] == "NextLat > 95.0\n(prose)"
    assert by_claim["training"][1].startswith("NextLat 3.09\nGPT 3.09\n")
    assert "NextLat 97.1, 99.8, 94.3" in by_claim["path-star"][1]
    assert "read off a figure" in by_claim["path-star"][1]
    assert by_claim["compression"][2].splitlines()[:2] == [
        *("NextLat (d=1) 0.98 [0.96, 1.00], 3 seeds", "GPT 0.91 [0.89, 0.93], 3 seeds")
    ]
    assert by_claim["compression"][3] == "3 compared: 3 ahead"
    assert by_claim["rank"][2] == "\n".join(
        f"{who} {DASH}" for who in ("NextLat (d=1)", "GPT", "MTP (d=1)", "JTP (d=1)")
    )
    for text in (made.markdown(), made.latex(), text_of(made.terminal())):
        assert f"{SEEDS} seeds" in text
        assert all(rule.split()[0] in text for rule in RULE)
    assert "Every comparison" in made.markdown()
    for short in (made.summary(), made.latex(), text_of(made.terminal())):
        assert "Every comparison" not in short
    assert all(note.endswith(".") for note in made.notes)


def test_claims_name_what_there_is() -> None:
    for claim in claims():
        assert claim.table in published()
        assert claim.differs
        if claim.table in LAYOUTS:
            keys = [column.key for column in LAYOUTS[claim.table].columns]
            assert {*claim.columns, claim.against_column or keys[0]} <= set(keys)
            assert set(claim.against) <= set(LAYOUTS[claim.table].rows)
    assert {claim.rule for claim in claims()} == {"ahead", "solves", "benchmark"}


def test_same_records_same_bytes_in_any_order() -> None:
    records = [*measured(HIGH, gpt=LOW, mtp=LOW), *stars((ALL, ALL), (ALL, NONE)), *a5_records()]
    made = sheet(records)
    random.Random(0).shuffle(records)
    again = sheet([*records, *records[:20]])
    assert (made.markdown(), made.latex(), made.csv()) == (
        *(again.markdown(), again.latex(), again.csv()),
    )


def test_it_fits_a_narrow_terminal() -> None:
    shown = text_of(sheet(stars((ALL, ALL), (ALL, NONE))).terminal(80), width=80)
    assert max(map(len, shown.splitlines())) <= 80
    assert "holds" in shown


def test_what_is_missing_is_said_before_what_is_too_few() -> None:
    records = measured(HIGH[:2], mtp=LOW, jtp=LOW)
    assert outcomes(records, "compression") == ["missing", "too few seeds", "too few seeds"]


def test_rows_of_another_length_are_another_budget() -> None:
    good = measured(HIGH, mtp=LOW, jtp=LOW)
    other = seeds(*LOW, **of("gpt") | COMPRESSION | {"training": {"row_length": 9}})
    assert outcomes([*good, *other], "compression")[0] == "unequal budgets"


def test_growing_words_are_another_budget() -> None:
    good = measured(HIGH, mtp=LOW, jtp=LOW)
    other = seeds(*LOW, **of("gpt") | COMPRESSION | {"task_parameters": TAXI | {"growth": 9}})
    assert outcomes([*good, *other], "compression")[0] == "unequal budgets"


def test_seeds_with_a_value_choose_the_setting() -> None:
    """Of five runs at horizon 1 two have been measured; of three at horizon 8 all."""
    near = driving(0.1, 0.1, None, None, None, **of("nextlat", 1))
    far = driving(*HIGH, **of("nextlat", 8))
    rivals = measured((), gpt=LOW, mtp=LOW, jtp=LOW)
    assert verdict([*near, *far, *rivals], "compression") == "holds"


def test_what_reads_as_perfect_says_nothing() -> None:
    """0.997 and 0.996 are 1.00 in the table, and 0.002 and 0.001 are 0.00."""
    for ours, theirs in (((0.997,) * 3, (0.996,) * 3), ((0.002,) * 3, (0.001,) * 3)):
        records = measured(ours, gpt=theirs, mtp=theirs, jtp=theirs)
        assert verdict(records, "compression") == "not testable at this scale"


def test_the_best_other_of_a_rank_is_the_lowest() -> None:
    """Here, and in the paper: MTP 57.7, JTP 215.8."""
    found = driving(10.0, 11.0, 12.0, what=RANK, **of("nextlat", 1))
    for name, values in {"gpt": (90, 91, 92), "mtp": (50, 51, 52), "jtp": (70, 71, 72)}.items():
        found += driving(*map(float, values), what=RANK, **of(name, None if name == "gpt" else 1))
    [row] = [row for row in sheet(found).grids[0].rows if row[0].startswith("Taxi, lower")]
    ours = "Latent rank: 11.0 [8.5, 13.5], 3 seeds; MTP (d=1) 51.0 [48.5, 53.5], 3 seeds"
    assert row[1:3] == ("52.7; MTP 57.7", ours)


def test_what_is_shown_is_of_the_setting_with_most_comparisons() -> None:
    """Where everybody has two seeds nothing is compared, however many values there are."""
    here = [
        replace(r, run=f"{r.run}-p", scale="paper")
        for r in measured(LOW[:2], gpt=LOW[:2], mtp=LOW[:2])
    ]
    there = measured(HIGH, gpt=MIDDLE)
    [row] = [row for row in sheet([*here, *there]).grids[0].rows if "same state" in row[0]]
    assert row[2].startswith("Compression: 0.98 [0.96, 1.00], 3 seeds; GPT 0.96 [")


def test_what_is_shown_is_of_a_setting_that_tells_something() -> None:
    """Two rivals that are as perfect as NextLat say less than one that is not."""
    full = (1.0,) * 3
    here = [replace(r, run=f"{r.run}-p", scale="paper") for r in measured(full, gpt=full, mtp=full)]
    [row] = [
        row
        for row in sheet([*here, *measured(HIGH, gpt=MIDDLE)]).grids[0].rows
        if "same state" in row[0]
    ]
    assert row[2].startswith("Compression: 0.98 [0.96, 1.00], 3 seeds; GPT 0.96 [")


def test_a_lead_and_its_routes_are_of_one_setting() -> None:
    """One state for everything at horizon 8, and another model, at horizon 1, that drives well and
    was not asked for its compression: the routes of the one do not save the lead of the other."""
    collapsed = driving(*HIGH, legal=0.0, **of("nextlat", 8))
    drives = driving(*HIGH, 0.97, **of("nextlat", 1))
    rivals = measured((), gpt=LOW, mtp=LOW, jtp=LOW)
    records = [*collapsed, *(r for r in drives if r.metric in BESIDE), *rivals]
    assert outcomes(records, "compression") == ["ahead, but it behaves worse"] * 3
    assert verdict(records, "compression") == "does not hold here"
