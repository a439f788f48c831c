"""Verdicts on the paper's claims, from records that are made up for each of them."""

import csv
import io
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from report_records import COUNTDOWN, PATH_STAR, STREETS, TAXI, a5_records, of, seeds, text_of

from nextlat_bench.report.claims import RULE, claims_sheet
from nextlat_bench.report.layouts import DASH, LAYOUTS
from nextlat_bench.report.records import Record, published
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.shipped import committed_benchmarks
from nextlat_bench.report.verdicts import SEEDS, claims

RIVALS = ("gpt", "mtp", "jtp")
HIGH, MIDDLE, LOW = (0.98, 0.97, 0.99), (0.95, 0.97, 0.96), (0.90, 0.91, 0.92)
RANK = {"probe": "rank", "metric": "effective_rank", "higher_is_better": False}
BESIDE = ("legal", "reached")
COMPRESSION = {"probe": "compression", "metric": "precision"}


def sheet(records: Iterable[Record], **benchmarks: Mapping[str, Any]) -> Sheet:
    return claims_sheet(records, benchmarks)


def lines(made: Sheet, claim: str) -> list[dict[str, str]]:
    return [r for r in csv.DictReader(io.StringIO(made.csv())) if r["claim"] == claim]


def verdict(records: Iterable[Record], claim: str, **benchmarks: Mapping[str, Any]) -> str:
    [found] = {line["verdict"] for line in lines(sheet(records, **benchmarks), claim)}
    return found


def outcomes(records: Iterable[Record], claim: str) -> list[str]:
    return [line["outcome"] for line in lines(sheet(records), claim)]


def measured(ours: Any, **others: Any) -> list[Record]:
    """Compression, of NextLat and by name of others; a seed a value. All drive equally well."""
    found = []
    for name, values in {"nextlat": ours, **others}.items():
        found += driving(*values, **of(name, None if name in ("gpt", "bst") else 1))
    return found


def driving(*values: float, what: Any = COMPRESSION, legal: float = 0.9, **who: Any) -> Any:
    """These values of compression or of something else, and how well it drives."""
    found = seeds(*values, **who | what) if values else []
    for metric in BESIDE if values else ():
        found += seeds(*[legal] * len(values), **who, metric=metric)
    return found


# ---- each verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (HIGH, (LOW, LOW, LOW), "holds"),
        (HIGH, (LOW, MIDDLE, LOW), "holds in part"),
        (HIGH, (LOW, HIGH, LOW), "holds in part"),  # a tie is no lead
        (HIGH, (HIGH, HIGH, HIGH), "does not hold here"),
        (MIDDLE, (HIGH, HIGH, HIGH), "does not hold here"),  # 0.02 +- 0.023
        (LOW, (HIGH, HIGH, HIGH), "does not hold here"),
        (LOW, (HIGH, (0.1, 0.1, 0.1), HIGH), "holds in part"),
        (HIGH[:2], (LOW, LOW, LOW), "not enough seeds"),
        (HIGH, (LOW, LOW[:2], LOW), "not enough seeds"),
        (HIGH, (LOW, MIDDLE, LOW[:2]), "holds in part"),  # whatever the last one will be
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
    assert any("0.07 [0.05, 0.09]" in row for row in made.grids[1].rows)


def test_a_missing_objective_gives_no_verdict() -> None:
    for left_out in RIVALS:
        others = {name: LOW for name in RIVALS if name != left_out}
        assert verdict(measured(HIGH, **others), "compression") == "not measured yet"
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
    assert verdict(found, "world model") == "holds in part"
    assert verdict([r for r in found if r.metric == "legal"], "world model") == "not measured yet"


def test_budgets_are_equal() -> None:
    good = measured(HIGH, mtp=LOW, jtp=LOW)
    for longer in ({"step": 4000}, {"training": {"examples": 9}}, {"decoder": {"layers": 9}}):
        other = seeds(*LOW, **of("gpt") | COMPRESSION | longer)
        assert outcomes([*good, *other], "compression")[0] == "unequal budgets"
        assert verdict([*good, *other], "compression") == "not measured yet"
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
    assert verdict([*here, *elsewhere(*LOW, **other)], "compression") == "holds in part"
    assert verdict([*here, *elsewhere(*LOW, scale="smoke")], "compression") == "holds"
    # begun, but without a complete comparison: it does not hold the verdict back
    begun = [r for r in elsewhere(*LOW, **other) if r.seed == 0]
    assert verdict([*here, *begun], "compression") == "holds"
    assert verdict(elsewhere(*LOW, scale="smoke"), "compression") == "not measured yet"


# ---- claims with a rule of their own

STARS = (PATH_STAR, PATH_STAR | {"degree": 3, "length": 4})
ALL, NONE, ONE_FAILS = (1.0, 1.0, 0.97), (0.5, 0.5, 0.5), (1.0, 1.0, 0.5)


def stars(ours: Any, theirs: Any, graphs: Any = STARS, condition: str = "decode=greedy") -> Any:
    """Of each graph: the greedy paths of NextLat, and of each rival, that are right."""
    found = []
    for graph, mine, its in zip(graphs, ours, theirs, strict=True):
        probe = {"task": "path_star", "task_parameters": graph, "probe": "accuracy"}
        probe |= {"metric": "accuracy", "condition": condition}
        for name in ("nextlat", "gpt", "bst", "mtp", "jtp"):
            values = mine if name == "nextlat" else its
            who = of(name, 2 if name in ("nextlat", "mtp", "jtp") else None)
            found += seeds(*values, **probe, **who)
    return found


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
    assert verdict(stars((ALL,), (NONE,), STARS[:1]), "path-star") == "not measured yet"


def test_data_efficiency_is_of_fixed_training_sets() -> None:
    """Without them there is no verdict on it, and with them none on solving every graph."""
    small, large = (PATH_STAR | {"num_train": n} for n in (1_000, 10_000))
    assert verdict(stars((ALL, ALL), (NONE, NONE)), "data") == "not measured yet"
    fixed = stars((ALL, ALL), (NONE, NONE), (small, large))
    assert verdict(fixed, "data") == "holds"
    assert verdict(fixed, "path-star") == "not measured yet"  # one graph is not every graph
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
    assert verdict(records, "a5") == "holds in part"
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
    assert verdict(both(1.5, 0.9), "decoding") == "holds in part"
    assert verdict(both(0.8, 0.9), "decoding") == "does not hold here"
    assert verdict(both(1.5, 1.6, rival=2.0), "decoding") == "holds in part"


def timed(**ratios: list[float]) -> dict[str, Any]:
    sizes = {k: {"NextLat d=1": {"ratio": v, "ratio_to": "GPT"}} for k, v in ratios.items()}
    return {"machine": "a machine", "other": {"fp32": 3.0}, **sizes}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (timed(small=[0.9, 1.0, 1.09], large=[1.0, 1.02, 1.05]), "holds"),
        (timed(small=[0.9, 1.0, 1.09], large=[1.2, 1.3, 1.4]), "holds in part"),
        (timed(small=[0.9, 1.05, 1.2]), "does not hold here"),  # undecided
        (timed(small=[1.2, 1.3, 1.4]), "does not hold here"),
        (timed(), "not measured yet"),
    ],
)
def test_training_speed_is_read_from_the_benchmark(facts: Any, expected: str) -> None:
    assert verdict([], "training", training=facts) == expected


def test_the_committed_benchmark_has_what_is_asked_for() -> None:
    made = claims_sheet([], committed_benchmarks())
    assert len(lines(made, "training")) == 3
    assert any(note.startswith("training: measured on ") for note in made.notes)


# ---- how it is shown


def test_every_claim_is_there_with_the_papers_numbers_and_the_rule() -> None:
    made = sheet(measured(HIGH, gpt=LOW, mtp=LOW, jtp=LOW))
    assert len(made.grids[0].rows) == len(claims()) == 10
    by_claim = {c.name: row for c, row in zip(claims(), made.grids[0].rows, strict=True)}
    assert by_claim["rank"][1].splitlines() == [
        *("NextLat 52.7", "GPT 160.1", "MTP 57.7", "JTP 215.8", "(Table 1)")
    ]
    assert by_claim["countdown"][1].startswith("NextLat 54.8\nGPT 33.1\nBST 42.3\nMTP 39.2\nJTP 39")
    assert by_claim["a5"][1] == "NextLat > 95.0\n(prose)"
    assert by_claim["training"][1].startswith("NextLat 3.09\nGPT 3.09\n")
    assert "NextLat 97.1, 99.8, 94.3" in by_claim["path-star"][1]
    assert "read off a figure" in by_claim["path-star"][1]
    assert by_claim["compression"][2].splitlines()[:2] == [
        *("NextLat (d=1) 0.98 [0.96, 1.00], 3 seeds", "GPT 0.91 [0.89, 0.93], 3 seeds")
    ]
    assert by_claim["compression"][3] == "holds\n3 compared: 3 ahead"
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
