"""What the documents say is true: examples run, and tables are those of the committed records."""

import base64
import csv
import io
import json
import re
import runpy
import shlex
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image, ImageChops

from nextlat_bench.cli import app
from nextlat_bench.report.contents import made, names
from nextlat_bench.report.figures import FIGURES
from nextlat_bench.report.page import page
from nextlat_bench.report.records import Record, committed
from nextlat_bench.report.sheets import Sheet
from nextlat_bench.report.shipped import committed_benchmarks, committed_choices
from nextlat_bench.report.tables import Table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md"))}
RENDER = runpy.run_path(str(ROOT / "scripts" / "render.py"))
SHOWN = {found[1]: found[0] for found in re.finditer(RENDER["MARKED"], README, flags=re.DOTALL)}
FOLLOWED = ("add-a", "share-a")  # word by word, by test_guides.py


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


EXAMPLES = [
    pytest.param(code, id=f"{name}-{i}")
    for name, text in {"README.md": README, **PAGES}.items()
    if not name.startswith(FOLLOWED)
    for i, code in enumerate(blocks("python", text))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_in_the_documents_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


@cache
def records() -> list[Record]:
    return committed()


@cache
def table(name: str) -> Table | Sheet:
    return made(name, records())


def commands() -> list[str]:
    """Those of the README and of the pages; in a loop of the shell, what is done each time."""
    found = []
    for text in (README, *PAGES.values()):
        for line in "\n".join(blocks("console", text) + blocks("sh", text)).splitlines():
            command = line.removeprefix("$ ").partition("#")[0]
            found += re.findall(r"(?:^|do )(nextlat-bench [^;]*)", command.strip())
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", commands())
def test_commands_in_the_documents_parse(line: str) -> None:
    """Each verb takes the arguments it is given; nothing is run."""
    verb, *arguments = shlex.split(line)[1:]
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    command.make_context(verb, arguments)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(("suffix", "form"), [("md", "markdown"), ("tex", "latex"), ("csv", "csv")])
def test_rendered_tables_are_those_of_the_committed_records(
    name: str, suffix: str, form: str
) -> None:
    rendered = (ROOT / "results" / "rendered" / f"{name}.{suffix}").read_text(encoding="utf-8")
    assert rendered == getattr(table(name), form)()


PICTURE = re.compile(r"base64,([A-Za-z0-9+/=]+)")


@cache
def drawn_again() -> str:
    return page(records())


def test_the_rendered_page_is_that_of_the_committed_records() -> None:
    """Pixels may differ where fonts are drawn by other versions; every number is text."""
    rendered = (ROOT / "results" / "rendered" / "report.html").read_text(encoding="utf-8")
    assert PICTURE.sub("base64", rendered) == PICTURE.sub("base64", drawn_again())
    assert len(rendered) < 3_000_000
    pictures = [base64.b64decode(text) for text in PICTURE.findall(rendered)]
    names = re.findall(r'id="figure-(\w+)"', rendered)
    for name, picture in zip(names, pictures, strict=True):
        its, same = (
            Image.open(each).convert("RGB")
            for each in (io.BytesIO(picture), ROOT / "results" / "rendered" / f"{name}.png")
        )
        assert ImageChops.difference(its, same).getbbox() is None, name  # to the last pixel


def test_every_figure_of_the_committed_records_is_rendered() -> None:
    """With the same pixels, but for the edges of letters."""
    pinned = re.findall(r"(?m)^matplotlib==(.*)$", (ROOT / "constraints.txt").read_text())
    if [version("matplotlib")] != pinned:
        pytest.skip(f"matplotlib is not {pinned[0]}: other versions place letters elsewhere")
    names = re.findall(r'id="figure-(\w+)"', drawn_again())
    assert set(names) == {n for n in FIGURES if (ROOT / f"results/rendered/{n}.png").exists()}
    for name, text in zip(names, PICTURE.findall(drawn_again()), strict=True):
        before = ROOT / "results" / "rendered" / f"{name}.png"
        ours, theirs = (
            np.asarray(Image.open(each).convert("L"), dtype=float)
            for each in (io.BytesIO(base64.b64decode(text)), before)
        )
        assert ours.shape == theirs.shape, name
        assert (abs(ours - theirs) > 64).mean() < 0.002, name


def test_the_machines_are_those_of_the_kept_provenance() -> None:
    rendered = ROOT / "results" / "rendered" / "machines.md"
    again = RENDER["machines"](records(), committed_choices())
    assert rendered.read_text(encoding="utf-8") == again
    assert "| taxi, heliopolis | gpt | not kept |" in again  # of early runs it was not kept


def test_where_each_run_was_trained_is_kept() -> None:
    """But of 43 runs, whose folders were gone before anybody kept it."""
    trained = {record.run: record for record in (*records(), *committed_choices()) if record.step}
    lines = (ROOT / "results" / "provenance.jsonl").read_text(encoding="utf-8").splitlines()
    kept = {facts["run"]: facts for facts in map(json.loads, lines)}
    assert len(kept) == len(lines)
    assert kept.keys() <= trained.keys()
    tested = {record.run for record in records() if record.step}
    assert len(tested - kept.keys()) <= 43
    for run, facts in kept.items():
        assert facts["steps"] == trained[run].step
        assert len(facts["commit"]) == 40
        assert {"device", "precision", "threads", "platform", "python"} <= facts.keys()
        assert "torch" in facts["versions"]
        assert facts["seconds_since_start_or_resume"] > 0


def test_the_readmes_speeds_are_the_tables() -> None:
    facts = committed_benchmarks()
    steps = facts["training"]["Training step: 6 layers, D 256, B 64, T 68"]
    small = facts["training"]["Training step: 4 layers, D 128, B 128, T 64"]
    [cores] = [each for each in facts["parallel"].values() if isinstance(each, dict)]
    [decoding] = [each for each in facts["decoding"].values() if isinstance(each, dict)]
    [language] = [each for title, each in facts["cost"].items() if "laptop preset" in title]
    peers = "nanoGPT", "Llama", "latent d"
    ratios = [
        *(steps[f"NextLat d={d}"]["ratio"] for d in (1, 2, 8)),
        *(each["ratio"] for side, each in steps.items() if any(peer in side for peer in peers)),
        *(small[f"NextLat d={d}"]["ratio"] for d in (1, 8)),
        *(language[f"nextlat d={d}"]["ratio"] for d in (1, 8)),
        *(each["ratio"] for rows, each in decoding.items() if rows.startswith("256,")),
        *(each["speedup"] for each in cores.values()),
    ]
    shown = README.partition("## How fast")[2].partition("## How it is built")[0]
    for _, median, _ in ratios:
        assert median == 1 or f"{median:.2f}" in shown
    assert f"{steps['GPT']['milliseconds'][1] / 1e3:.2f} s" in shown


def test_the_readme_shows_tables() -> None:
    assert {"claims", "taxi", "countdown", "a5", "speculation"} == SHOWN.keys()
    assert README.count("<!-- table") == README.count("<!-- end of table -->") == len(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_the_readmes_table_is_the_rendered_one(name: str) -> None:
    """So that no number of it is typed by hand."""
    assert SHOWN[name] == RENDER["marked"](name, records())


@pytest.mark.parametrize("name", RENDER["BRIEF"])
def test_the_readmes_rows_have_three_seeds_and_the_papers_numbers_beside_ours(name: str) -> None:
    whole = table(name)
    assert isinstance(whole, Table)
    brief = RENDER["brief"](whole)
    assert RENDER["BRIEF"][name] <= {column.heading for column in whole.columns}
    for grid in brief.grids:
        assert set(grid.head[2:]) == RENDER["BRIEF"][name]
        assert all(int(row[1]) >= 3 and "paper" not in row[0] for row in grid.rows)
    theirs = [row for row in whole.rows if row.source == "paper"]
    assert ("(paper" in str(brief.grids)) == bool(theirs)


def test_the_readme_has_the_verdict_on_every_claim() -> None:
    rows = csv.DictReader(io.StringIO(table("claims").csv()))
    verdicts = Counter({row["claim"]: row["verdict"] for row in rows}.values())
    said = re.findall(r" \| ([a-z ]+)(?:;.*)? \|$", SHOWN["claims"], flags=re.MULTILINE)
    assert Counter(said) == verdicts
