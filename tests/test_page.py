"""The HTML report as text: every number, nothing from outside, and no record breaks in."""

import base64
import hashlib
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from html_pages import Element, parsed
from report_records import (
    MADE_UP,
    STREETS,
    TAXI,
    a5_records,
    countdown_records,
    path_star_records,
    seeds,
)

from nextlat_bench.report.contents import made, names
from nextlat_bench.report.exhibits import Exhibits, StreetSketch
from nextlat_bench.report.figures import FIGURES, figure
from nextlat_bench.report.layouts import LAYOUTS
from nextlat_bench.report.page import page
from nextlat_bench.report.records import write
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.shipped import committed_known
from nextlat_bench.report.tables import DASH, table

EVIL = "<script>hacked=1</script>"
BREAKING = '"><img src=x onerror=hacked=1></style></script>' + EVIL
ALL = [*MADE_UP, *path_star_records(), *countdown_records(), *a5_records()]
HOSTILE = [
    *seeds(0.5, objective=EVIL, objective_parameters={}, skipped_because=BREAKING, n_skipped=3),
    *seeds(0.5, None, task_parameters=TAXI | {"streets": STREETS | {"source": BREAKING}}),
]


@pytest.fixture(scope="module")
def whole() -> str:
    return page(ALL)


@pytest.fixture(scope="module")
def tree(whole: str) -> Element:
    return parsed(whole)


def section(tree: Element, name: str) -> Element:
    return next(s for s in tree.all("section") if s.attributes["id"] == name)


def grid(found: Element) -> dict[str, list[str]]:
    """Head of each row -> its cells."""
    rows = found.one("tbody").all("tr")
    return {row.one("th").text: [cell.text for cell in row.all("td")] for row in rows}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_cell_of_every_table_is_there(name: str, tree: Element) -> None:
    shown = table(name, ALL)
    captions = {t.one("caption").text: t for t in section(tree, name).all("table")}
    for every in (False, True):
        for block, rows in shown.blocks(seeds=every).items():
            found = captions[f"{block}{', every seed' * every}"]
            heads = [th.text for th in found.one("thead").all("th")]
            assert heads == ["Model", "Seeds", *(column.heading for column in shown.columns)]
            assert grid(found) == {
                row.heads[0]: [row.heads[1], *map(" ".join, shown.lines(row))] for row in rows
            }
    notes = [item.text for item in section(tree, name).all("li")]
    assert notes == [" ".join(note.split()) for note in shown.notes]


def test_every_claim_is_there_with_its_verdict_at_the_top(tree: Element) -> None:
    first = next(tree.all("section"))
    assert first.attributes["id"] == "claims"
    shown = made("claims", ALL)
    assert isinstance(shown, Sheet)
    captions = {t.one("caption").text: t for t in first.all("table")}
    assert list(captions) == [part.heading for part in shown.grids]
    for part in shown.grids:
        rows = list(captions[part.heading].one("tbody").all("tr"))
        found = [[cell.text for cell in row.all("th", "td")] for row in rows]
        assert found == [[" ".join(text.split()) for text in row] for row in part.rows]
    assert [caption.text for caption in first.one("details").all("caption")] == [
        part.heading for part in shown.grids if part.detail
    ]


def pictures(tree: Element) -> dict[str, Element]:
    return {f.attributes["id"].removeprefix("figure-"): f for f in tree.all("figure")}


def test_every_picture_has_words_and_its_numbers(tree: Element) -> None:
    drawn = {name for name in FIGURES if figure(name, ALL)[0] is not None}
    assert drawn >= {"path_star", "countdown", "a5"}
    assert set(pictures(tree)) == drawn
    for name, found in pictures(tree).items():
        assert found in list(section(tree, FIGURES[name].table).all("figure"))
        picture = found.one("img").attributes
        webp = base64.b64decode(picture["src"].removeprefix("data:image/webp;base64,"))
        assert webp.startswith(b"RIFF")
        assert webp[8:16] == b"WEBPVP8L"  # without loss
        assert "NextLat" in picture["alt"]
        assert "True world model" not in picture["alt"] + found.one("details").text
        assert found.one("figcaption").text == FIGURES[name].caption
        captions = [t.one("caption").text for t in found.one("details").all("table")]
        assert any("every seed" in caption for caption in captions)
        assert any("every seed" not in caption for caption in captions)


def test_the_words_of_a_picture_by_hand(tree: Element) -> None:
    says = {name: found.one("img").attributes["alt"] for name, found in pictures(tree).items()}
    gpt = "laptop scale, G(2,5), 20 ids: GPT: Path, greedy % 50.3, Path, sampled % 48.8; "
    assert gpt in says["path_star"]
    assert "MTP (d=4): Held-out targets % 28.8, Released reading % 38.8; " in says["countdown"]
    assert "GPT: from 1.7 to 98.0 %; " in says["a5"]


def test_the_numbers_of_the_curves_stand_on_their_side(tree: Element) -> None:
    tables = pictures(tree)["a5"].one("details").all("table")
    seeds_of = next(t for t in tables if "every seed" in t.one("caption").text)
    heads = [th.text for th in seeds_of.one("thead").all("th")]
    cells = grid(seeds_of)["recurrent, position 36 %"]
    by_model = dict(zip(heads[1:], cells, strict=True))
    values = {
        r.seed: f"{100 * r.value:.1f}"
        for r in ALL
        if (r.objective, r.metric, r.condition)
        == ("gru", "accuracy", "reading=recurrent,length=36")
        and r.value is not None
    }
    assert len(values) == 3
    for seed, value in values.items():
        assert by_model[f"GRU, seed {seed}"].startswith(value)
    assert by_model["GPT, seed 0"] == DASH


def test_the_same_records_give_the_same_bytes(whole: str) -> None:
    assert page(ALL[::-1]) == whole


def test_missing_is_a_dash_and_sorts_as_nothing(tree: Element) -> None:
    cells = [cell for cell in tree.all("td") if "words" not in cell.attributes.values()]
    without = {cell.text for cell in cells if "data-key" not in cell.attributes}
    none = f"{DASH} ({DASH})"  # as must come out of a model whose answer is known
    assert {text for text in without if not re.match(r"-?\d+(\.\d+)?( |$)", text)} == {DASH, none}
    assert all(cell.text != DASH for cell in cells if "data-key" in cell.attributes)
    assert {c.attributes.get("aria-label") for c in cells if c.text == DASH} == {"none"}
    assert {c.attributes.get("aria-label") for c in cells if c.text == none} == {"none (none)"}


def test_what_has_no_value_and_should_have_one_fails_on_the_page_too() -> None:
    own = [replace(r, scale="smoke") for r in committed_known() if r.task == "a5"]
    trunk = "reading=trunk,length=36"
    lost = [
        replace(r, value=None, low=None, high=None)
        if (r.objective, r.metric, r.condition) == ("oracle", "accuracy", trunk)
        else r
        for r in own
    ]
    found = grid(section(parsed(page(lost, ["validity"])), "validity"))
    assert found["trunk, 3 times as long"][0] == f"{DASH} (1) FAILS"


def test_a_cell_sorts_by_its_number(tree: Element) -> None:
    for cell in tree.all("td"):
        if key := cell.attributes.get("data-key"):
            first = re.split(r" [\[(]", cell.text)[0].removesuffix("*")
            shown = float(first.removeprefix("> ").replace(",", ""))
            assert shown == pytest.approx(float(key), abs=0.501 if "." not in cell.text else 0.0501)


def test_nothing_outside_is_needed(tree: Element) -> None:
    links = [e.attributes[k] for e in tree.all() for k in ("src", "href") if k in e.attributes]
    assert len(links) > 10
    ids = Counter(e.attributes["id"] for e in tree.all() if "id" in e.attributes)
    assert set(ids.values()) == {1}
    assert all(link.startswith("data:") or link.removeprefix("#") in ids for link in links)
    for element in tree.all():
        for key in ("aria-labelledby", "aria-describedby"):
            assert element.attributes.get(key, next(iter(ids))) in ids
        assert "style" not in element.attributes
    [style], [script] = tree.all("style"), tree.all("script")
    assert not re.search(r"url\(|@import|https?:", str(style.children) + str(script.children))


def test_only_the_pages_own_script_and_style_may_be_used(tree: Element) -> None:
    [policy] = [m for m in tree.all("meta") if "http-equiv" in m.attributes]
    for tag in ("style", "script"):
        [text] = tree.one(tag).children
        digest = base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy.attributes["content"]
    assert policy.attributes["content"].startswith("default-src 'none'; ")


def test_what_records_say_is_text() -> None:
    found = parsed(page([*ALL, *HOSTILE]))
    assert len(list(found.all("script"))) == len(list(found.all("style"))) == 1
    assert all(e.attributes["src"].startswith("data:") for e in found.all("img"))
    assert not [k for e in found.all() for k in e.attributes if k.startswith("on")]
    heads = [th.text for th in section(found, "taxi").all("th")]
    assert EVIL in heads
    captions = [each.text for each in section(found, "taxi").all("caption")]
    assert any(BREAKING in caption for caption in captions)
    assert any(BREAKING in item.text for item in section(found, "taxi").all("li"))


def test_headings_go_down_one_by_one(tree: Element) -> None:
    levels = [int(e.tag[1]) for e in tree.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_a_street_map_is_shown_of_the_runs_own_exhibits(tree: Element) -> None:
    """Nobody's own records stand beside a picture of another model."""
    measured = [
        each
        for metric, value in (("false_edge_share", 0.5), ("false_edges", 1.0), ("true_edges", 1.0))
        for each in seeds(value, probe="map_reconstruction", metric=metric)
    ]
    corners = [[31.30, 30.08], [31.31, 30.08], [31.30, 30.09]]
    edges = {"streets": [[0, 1]], "true_edges": [[0, 1]], "false_edges": [[1, 2]]}
    sketch = StreetSketch(run=measured[0].run, source="hand", nodes=corners, **edges)
    assert "taxi_map" not in pictures(parsed(page(measured, ["taxi"])))
    found = pictures(parsed(page(measured, ["taxi"], Exhibits(maps={sketch.run: sketch}))))
    [mine] = [grid(each) for each in found["taxi_map"].one("details").all("table")][:1]
    assert mine["NextLat (d=1)"][1].startswith("50.0")


def test_the_tables_named_are_shown_once() -> None:
    found = parsed(page(ALL, ["a5", "taxi", "a5"]))
    assert [s.attributes["id"] for s in found.all("section")] == ["a5", "taxi", "records"]
    assert set(grid(section(found, "records").one("table"))) == {"a5", "taxi"}


def test_of_nothing_there_is_a_page_with_the_papers_numbers() -> None:
    found = parsed(page([]))
    assert not list(found.all("img"))
    assert {s.attributes["id"] for s in found.all("section")} == {*names(), "records"}
    assert "98.7" in section(found, "taxi").text


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nextlat_bench", "report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)


def test_report_writes_the_page_of_ones_own_records(tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", a5_records())
    options = ["--records", "mine.jsonl", "--format"]
    done = call("a5", *options, "html", "--out", "a5.html", cwd=tmp_path)
    assert done.stdout == "a5.html: from mine.jsonl\n"
    text = (tmp_path / "a5.html").read_text(encoding="utf-8")
    assert text == page(a5_records(), ["a5"]) == call("a5", *options, "html", cwd=tmp_path).stdout
    call("a5", *options[:2], "--out", "a5.csv", cwd=tmp_path)  # as its name says
    assert (tmp_path / "a5.csv").read_text() == table("a5", a5_records()).csv()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.jsonl", "a5.html", "a5.csv"}


def test_records_of_several_places_are_shown_together(tmp_path: Path) -> None:
    records, name = a5_records(), a5_records()[0].objective
    write(tmp_path / "one.jsonl", [r for r in records if r.objective == name])
    write(tmp_path / "others.jsonl", [r for r in records if r.objective != name])
    options = ["--records", "one.jsonl", "--records", "others.jsonl", "--format", "md"]
    done = call("a5", *options, "--out", "a5.md", cwd=tmp_path)
    assert done.stdout == "a5.md: from one.jsonl, others.jsonl\n"
    assert (tmp_path / "a5.md").read_text() == table("a5", records).markdown()


def test_importing_the_page_loads_what_it_draws_with_when_it_draws() -> None:
    code = (
        "import sys, nextlat_bench.report.page;"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
