"""Tables as pure functions of records. Every number measured here is made up."""

import csv
import io
import random
import re
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest
from report_records import DETOUR, MADE_UP, STREETS, TAXI, record, seeds, text_of
from rich.console import Console

from nextlat_bench.report.records import Record, told_apart
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.tables import DASH, Table, names, table

# ---- the taxi table


def cells(made: Table, label: str, source: str = "measured") -> dict[str, str]:
    """Heading -> text of the one row with this label and source."""
    [row] = [r for r in made.rows if (r.label, r.source) == (label, source)]
    headings = [column.heading for column in made.columns]
    return dict(zip(headings, map(" ".join, made.lines(row)), strict=True))


def test_one_cell_by_hand() -> None:
    made = cells(table("taxi", seeds(0.90, 0.94, 0.98)), "NextLat (d=1)")
    # 0.04 / sqrt(3) is the standard error, t of two degrees 4.303; no share is above one
    assert made["Valid, legal %"] == "94.0 [84.1, 100.0]"
    made = cells(table("taxi", seeds(0.9)), "NextLat (d=1)")
    assert made["Valid, legal %"] == "90.0 [88.0, 92.0]"  # the probe's own interval


def test_missing_is_a_dash_never_zero() -> None:
    made = table("taxi", MADE_UP)
    ours = cells(table("taxi", seeds(0.9)), "NextLat (d=1)")
    assert {heading: text for heading, text in ours.items() if heading != "Valid, legal %"} == {
        "Next-token %": DASH,
        "Valid, reached %": DASH,
        "Compression": DASH,
        "Compression, published": DASH,
        "Latent rank": DASH,
        "Detours 0.5, legal %": DASH,
        "Detours 0.75, legal %": DASH,
        "Detours 0.75, reached %": DASH,
    }
    assert set(cells(table("taxi", seeds(0.9)), "MTP").values()) == {DASH}
    for line in csv.DictReader(io.StringIO(made.csv())):
        assert line["value"] != "0.0"
        assert bool(line["value"]) == bool(line["seeds"]) or line["source"] == "paper"
        assert bool(line["n"]) == bool(line["n_skipped"]) == bool(line["seeds"])
    true_zero = cells(table("taxi", seeds(0.0, low=0.0, high=0.004)), "NextLat (d=1)")
    assert true_zero["Valid, legal %"] == "0.0 [0.0, 0.4]"


def test_a_seed_without_a_value_is_left_out_and_named() -> None:
    made = table("taxi", seeds(0.9, None, 0.8, skipped_because="no route"))
    assert cells(made, "NextLat (d=1)")["Valid, legal %"] == "85.0 [21.5, 100.0]"
    assert cells(made, "NextLat (d=1)", "seed 1")["Valid, legal %"] == DASH
    assert "Valid, legal %: no value for NextLat (seed 1) (no route)." in made.notes


def test_an_interval_that_is_missing_is_shown_as_missing() -> None:
    made = table("taxi", seeds(0.9, low=None, high=None))
    assert cells(made, "NextLat (d=1)")["Valid, legal %"] == f"90.0 [{DASH}, {DASH}]"
    assert f" {DASH}, {DASH} " in text_of(made.terminal())


def test_seeds_are_averaged_never_pooled() -> None:
    few, many = record(run="a", seed=0, value=0.0, n=1), record(run="b", seed=1, value=1.0, n=999)
    made = table("taxi", [few, many])
    assert cells(made, "NextLat (d=1)")["Valid, legal %"].startswith("50.0 ")
    for i, text in enumerate(("0.0", "100.0")):
        assert cells(made, "NextLat (d=1)", f"seed {i}")["Valid, legal %"].startswith(text)


def test_scales_and_settings_are_never_mixed() -> None:
    other = TAXI | {"radius": 500.0}
    made = table(
        "taxi",
        [
            *seeds(0.9),
            *seeds(0.1, scale="smoke"),
            *seeds(0.5, task_parameters=other),
            *seeds(0.3, task_parameters=TAXI | {"max_nodes": 20}),
        ],
    )
    ours = [row for row in made.rows if (row.label, row.source) == ("NextLat (d=1)", "measured")]
    assert {row.block: round(row.cells[1].value or 0) for row in ours} == {
        "laptop scale, heliopolis, radius 800 m, random walks, max_nodes=40": 90,
        "laptop scale, heliopolis, radius 800 m, random walks, max_nodes=20": 30,
        "laptop scale, heliopolis, radius 500 m, random walks": 50,
        "smoke scale, heliopolis, radius 800 m, random walks": 10,
    }
    assert [row.block.split()[0] for row in ours] == ["laptop", "laptop", "laptop", "smoke"]


def test_a_tasks_own_seed_is_no_setting() -> None:
    runs = [
        record(run=f"r{i}", seed=i, value=v, task_parameters=TAXI | {"seed": i})
        for i, v in enumerate((0.8, 1.0))
    ]
    assert cells(table("taxi", runs), "NextLat (d=1)")["Valid, legal %"] == "90.0 [0.0, 100.0]"


def test_what_differs_has_a_row_of_its_own() -> None:
    marked = {"layers": 4, "width": 128, "mark_start": True}
    made = table(
        "taxi",
        [
            *seeds(0.1, objective_parameters={"horizon": 8}),
            *seeds(0.2),
            *seeds(0.3, step=500),
            *seeds(0.4, objective_parameters={"horizon": 1, "kl_weight": 0.5}, step=500),
            record(run="x", objective="gpt", objective_parameters={}, value=0.5),
            record(run="y", objective="gpt", objective_parameters={}, value=0.6),
            *seeds(0.7, objective="mine", objective_parameters={}),
            *seeds(0.8, objective="always_end", objective_parameters={}, step=0),
            *seeds(0.9, objective="bst", objective_parameters={}),
            record(run="z", objective="bst", objective_parameters={}, decoder=marked, value=1.0),
        ],
    )
    ours = {row.label: row.cells[1].value for row in made.rows if row.source == "measured"}
    assert {label: None if v is None else round(v) for label, v in ours.items()} == {
        "GPT (run=x)": 50,
        "GPT (run=y)": 60,
        "MTP": None,
        "JTP": None,
        "NextLat (d=1, kl_weight=none, step=2000)": 20,
        "NextLat (d=1, kl_weight=none, step=500)": 30,
        "NextLat (d=1, kl_weight=0.5, step=500)": 40,
        "NextLat (d=8)": 10,
        "BST": 90,  # a field of the decoder that it lacks came later, and has its default
        "BST (mark_start=True)": 100,
        "mine": 70,
        "True world model": None,
    }
    papers = [row.label for row in made.rows if row.source == "paper"]
    assert papers == ["GPT", "MTP", "JTP", "NextLat", "True world model"]
    assert "measured but not shown: always_end." in made.notes


def test_protocols_are_never_mixed() -> None:
    def compression(value: float, run: str, **more: Any) -> Record:
        chosen = {"run": run, "seed": int(run), "probe": "compression", "metric": "precision"}
        return record(value=value, probe_parameters=more, n=more["num_states"], **chosen)

    made = table(
        "taxi",
        [
            compression(0.5, "0", protocol="precision", num_states=100),
            compression(0.7, "1", protocol="precision", num_states=100),
            compression(0.1, "0", protocol="precision", num_states=9000),
            compression(0.99, "0", protocol="released", num_states=100),
            compression(0.99, "1", protocol="released", num_states=100),
        ],
    )
    assert cells(made, "NextLat (d=1)")["Compression"] == "0.60 [0.00, 1.00]"
    assert (
        "probe compression: 9,000 trials a seed, num_states=9000, protocol=precision." in made.notes
    )


def test_a_cell_is_of_one_condition() -> None:
    detours = {"probe": "detours", "condition": DETOUR}
    made = table("taxi", [*seeds(0.8, **detours), *seeds(0.1, **detours | {"condition": "p=0.1"})])
    assert cells(made, "NextLat (d=1)")["Detours 0.75, legal %"] == "80.0 [88.0, 92.0]"
    assert cells(made, "NextLat (d=1)")["Detours 0.75, reached %"] == DASH


def test_the_papers_row() -> None:
    made = table("taxi", MADE_UP)
    papers = [row for row in made.rows if (row.label, row.source) == ("NextLat", "paper")]
    assert len(papers) == len({row.block for row in made.rows}) == 2
    for row in papers:
        texts = [" ".join(lines) for lines in made.lines(row)]
        assert texts == ["100.0", "98.7", DASH, DASH, "0.71", "52.7", DASH, "95.0", DASH]


def test_notes_say_how_it_was_measured() -> None:
    notes = "\n".join(table("taxi", MADE_UP).notes)
    for part in (
        "laptop scale, heliopolis, radius 800 m, random walks: max_nodes=40, streets.digest=",
        "streets.digest=0123456789ab, trained",
        "trained for 2,000 steps",
        ": 5 trials skipped in all (too_far)",
        "Paper (Table 1): Manhattan",
        "48 layers, 8 heads, D 384",
    ):
        assert part in notes


def test_no_records_at_all() -> None:
    made = table("taxi", [record(task="countdown")])
    assert {row.block for row in made.rows} == {"nothing measured yet"}
    assert set(cells(made, "NextLat").values()) == {DASH}
    for text in (made.markdown(), made.latex(), made.csv(), text_of(made.terminal())):
        assert "98.7" in text


def test_unknown_table() -> None:
    every = ["a5", "countdown", "language", "lookahead", "path_star", "speculation"]
    every += ["states", "taxi"]
    assert names() == every
    with pytest.raises(ValueError, match="no table named 'taxy'; did you mean 'taxi'"):
        table("taxy", [])


# ---- the renderers


def test_same_bytes_in_any_order() -> None:
    made = table("taxi", MADE_UP)
    for seed in range(5):
        shuffled = random.Random(seed).sample(MADE_UP, len(MADE_UP))
        again = table("taxi", shuffled + shuffled[:3])
        assert again == made
        assert again.csv() == made.csv()
        assert again.markdown() == made.markdown()
        assert again.latex() == made.latex()
        assert text_of(again.terminal()) == text_of(made.terminal())


def test_csv_is_long_and_complete() -> None:
    made = table("taxi", MADE_UP)
    frame = pd.read_csv(io.StringIO(made.csv()))
    assert len(frame) == len(made.rows) * len(made.columns)
    shown = frame[(frame.model == "NextLat (d=1)") & frame.block.str.startswith("laptop")]
    legal = shown[shown.column == "Valid, legal %"].set_index("source")
    assert legal.value.to_dict() == pytest.approx(
        {"measured": 94.0, "seed 0": 90.0, "seed 1": 94.0, "seed 2": 98.0}
    )
    assert legal.n.to_dict() == {"measured": 3000, "seed 0": 1000, "seed 1": 1000, "seed 2": 1000}
    assert (legal.low["measured"], legal.high["measured"]) == pytest.approx((84.06345, 100.0))
    assert {len(line) for line in csv.reader(io.StringIO(made.csv()))} == {11}


def hostile() -> Table:
    streets = STREETS | {"source": r"my_map|50%&#{x}\~^$<a>[/b].graphml"}
    where = {"task_parameters": TAXI | {"streets": streets}}
    return table("taxi", [*seeds(0.9, 0.8, **where), *seeds(0.7, objective="a|b_c", **where)])


def test_markdown() -> None:
    text = table("taxi", MADE_UP).markdown()
    assert "| NextLat (d=1) | 3 |" in text
    assert "| NextLat (d=1), seed 2 | 1 |" in text
    assert text.count("every seed") == 2  # one for each scale
    for made in (table("taxi", MADE_UP), hostile()):
        lines = [line for line in made.markdown().splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {12}


def test_latex_is_well_formed() -> None:
    for made in (table("taxi", MADE_UP), hostile(), table("taxi", [])):
        text = made.latex()
        bare = re.sub(r"\\[\\{}%&#_$]", "", text)  # without escaped characters
        depth = 0
        for character in bare:
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
        assert depth == 0
        first, body = bare.split("\n", 1)
        assert first == r"% needs \usepackage{booktabs}"
        assert not set("%#_$~^|–") & set(body)  # noqa: RUF001
        begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
        assert begun == ended[::-1] == ["table", "tabular"]
        assert r"\\[" not in text  # the interval would be read as a length
        rows = [line for line in bare.splitlines() if " & " in line]
        assert {line.count(" & ") for line in rows} == {10}
        assert [rule for rule in ("toprule", "midrule", "bottomrule") if rule not in text] == []
    assert r"95\% interval" in text
    assert r"max\_nodes" in table("taxi", MADE_UP).latex()


@pytest.mark.parametrize("width", [40, 80, 100, 140])
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1", "TERM": "dumb"}])
def test_terminal_fits(environment: dict[str, str], width: int) -> None:
    gpt = {"objective": "gpt", "objective_parameters": {}}
    wide = seeds(155, 160, 165, probe="rank", metric="effective_rank", **gpt)
    made = table("taxi", [*MADE_UP, *wide])
    console = Console(
        file=io.StringIO(), width=width, height=50, force_terminal=True, _environ=environment
    )
    console.print(made.terminal(width))
    text = console.file.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert ("\x1b" in text) == (not environment)
    assert max(map(len, plain.splitlines())) <= width
    words = set(plain.split())
    ends = ("84.1", "100.0", "147.6", "172.4")
    if width < 100:  # nothing is cut, and no number broken in two
        assert {f"84.1{DASH}", "100.0", f"147.6{DASH}", "172.4"} <= words
    else:
        assert {f"{ends[0]}{DASH}{ends[1]}", f"{ends[2]}{DASH}{ends[3]}"} <= words
    assert {"Compression", "paper", "True", "160.1", "NextLat"} <= words
    assert "3 seeds" in plain


def test_terminal_shows_names_as_they_are() -> None:
    assert r"my_map|50%&#{x}\~^$<a>[/b].graphml" in text_of(hostile().terminal(), width=200)
    long = table("taxi", seeds(0.9, objective="a" * 60))
    assert "…" not in text_of(long.terminal(70), width=70)


def test_report_loads_no_torch_no_tasks_no_probes() -> None:
    code = (
        "import sys, nextlat_bench.report.tables as t;"
        "t.table('taxi', []).markdown(); t.table('taxi', []).latex(); t.table('taxi', []).csv();"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'pandas', 'matplotlib')"
        " or m.startswith(('nextlat_bench.tasks', 'nextlat_bench.probes'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_variants_are_told_apart_in_few_words_and_in_full_below() -> None:
    """By the objective's own parameter where one does, else by as many as it takes."""
    step = {"metric": "reached", "training": {"steps": 100, "rate": 0.1}, "step": 100}
    records = [
        *seeds(0.1, metric="reached", objective_parameters={"horizon": 1, "weight": 1.0}),
        *seeds(0.2, objective_parameters={"horizon": 1, "weight": 2.0}, **step),
        *seeds(0.3, objective_parameters={"horizon": 2, "weight": 2.0}, **step),
    ]
    made = table("taxi", records)
    labels = [row.label for row in made.rows if row.source == "measured" and row.num_seeds]
    assert labels == ["NextLat (d=1, weight=1.0)", "NextLat (d=1, weight=2.0)", "NextLat (d=2)"]
    [note] = [n for n in made.notes if n.startswith("NextLat (d=1, weight=2.0): ")]
    assert note.endswith(
        "d=1, step=100, training.learning_rate=none, training.rate=0.1, "
        "training.steps=100, weight=2.0."
    )
    assert not any(note.startswith("NextLat (d=2): ") for note in made.notes)
    three = [{"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 1}, {"a": 2, "b": 1, "c": 1}]
    assert told_apart(three, {}, briefly=True) == ["a=1, b=1", "a=1, b=2", "a=2, b=1"]
    rates = [{"training.rate": 1}, {"training.rate": 2}]
    assert told_apart(rates, {}, briefly=True) == ["rate=1", "rate=2"]
    assert told_apart(rates, {}) == ["training.rate=1", "training.rate=2"]


def test_of_a_file_the_heading_names_no_folder() -> None:
    sources = ["/home/me/manhattan.graphml", "../manhattan.osm", "hf:someone/text", "heliopolis"]
    expected = ["manhattan.graphml", "manhattan.osm", "hf:someone/text", "heliopolis"]
    assert told_apart([{"source": source} for source in sources], {"source": "{}"}) == expected


def test_of_known_subjects_the_references_alone_have_rows() -> None:
    """Where they were measured: an impostor is no row, nor is an ideal learner of another table."""
    known = [
        made
        for name in ("ideal_learner", "wrong_map", "oracle")
        for made in seeds(1.0, objective=name, objective_parameters={}, step=0)
    ]
    block, *_ = table("taxi", [*MADE_UP, *known]).blocks(seeds=False).values()
    labels = [row.label for row in block if row.source == "measured"]
    assert labels[-2:] == ["Ideal learner", "True world model"]
    assert not any("rong" in label for label in labels)
    assert "Ideal learner" not in table("taxi", MADE_UP).markdown()


def test_a_map_is_the_same_in_whichever_folder_its_file_lies() -> None:
    """Another file of that name has another digest."""

    def of(folder: str, digest: str) -> Record:
        streets = {"source": f"{folder}/a.graphml", "digest": digest}
        return record(run=folder + digest, task_parameters=TAXI | {"streets": streets})

    same = [of(folder, STREETS["digest"]) for folder in ("/here", "/there")]
    assert len(table("taxi", same).blocks(seeds=False)) == 1
    assert len(table("taxi", [*same, of("/here", "f" * 64)]).blocks(seeds=False)) == 2


def test_numbers_of_csv_have_ten_digits() -> None:
    """In their last ones versions of SciPy differ."""
    made = Sheet("name", "title", (), (), (("value", "n"), (1 / 3, 2), (95.0, None)))
    assert made.csv() == "value,n\n0.3333333333,2\n95.0,\n"
