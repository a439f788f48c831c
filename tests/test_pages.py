"""The pages of docs/: their generated parts, what they must not leave out, and their links."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from nextlat_bench import plan as plan_module
from nextlat_bench import registry
from nextlat_bench.cli import app
from nextlat_bench.cli.measuring import cells
from nextlat_bench.plan import plan_view
from nextlat_bench.report.layouts import LAYOUTS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(ROOT.glob("docs/*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def guides() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guides", ROOT / "scripts/guides.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "metrics",
        pytest.param("reproduce", marks=pytest.mark.slow),
        pytest.param("paper-scale", marks=pytest.mark.slow),
    ],
)
def test_generated_parts_are_of_today(name: str, guides: ModuleType) -> None:
    """`python scripts/guides.py` writes them."""
    text = read(name)
    assert text.count("<!-- end -->") == len(re.findall(guides.MARKED, text, re.DOTALL)) > 0
    assert guides.filled(text) == text


@pytest.mark.parametrize("name", ["reproduce", "paper-scale"])
def test_costs_of_one_objective_are_of_today(name: str, guides: ModuleType) -> None:
    """The same in short: all rows are there, of as many runs, and GPT's have today's numbers."""
    [[begin, gpu]] = re.findall(r"(<!-- costs ?(\w*) -->\n)", text := read(name))
    table = text.partition(begin)[2].partition("<!-- end -->")[0].strip()
    for line, (head, objective, runs) in zip(
        table.splitlines()[2:], guides.rows(text), strict=True
    ):
        assert line.startswith(f"| {head} | ")
        if objective == "gpt":
            assert line == f"| {head} | {guides.costs(runs, gpu)} |"


def test_no_probe_is_left_out() -> None:
    """Each has a section of that name, with words of its own and its table, and all are in the
    README's list."""
    sections = re.findall(
        r"^## (\w+)\n\n(.+?)\n\n<!-- probe (\w+) -->", read("metrics"), re.MULTILINE | re.DOTALL
    )
    assert [(title, marked) for title, _, marked in sections] == [
        (name, name) for name in registry.names("probes")
    ]
    assert all(len(words) > 100 for _, words, _ in sections)
    listed = re.findall(r"^\| `(\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == registry.names("probes")


def test_every_condition_that_is_named_exists() -> None:
    """A key of a condition in the prose is one that the probes write."""
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("probes/*.py"))
    scores = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tasks/*.py"))
    for key, value in re.findall(r"`(\w+)=(\w+)`", read("metrics")):
        assert re.search(rf'{key}=|"{key}"|{key}:', sources), key
        if value.isalpha() and value.islower():
            assert f'"{value}"' in sources + scores or f"={value}" in sources, value


def asked(verb: str, text: str) -> list[dict[str, object]]:
    """The options of each such command of a page."""
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    lines = re.findall(rf"^\$ nextlat-bench {verb} ([^#\n]*)", text, re.MULTILINE)
    return [command.make_context(verb, line.split()).params for line in lines]


def test_every_table_has_its_commands(guides: ModuleType) -> None:
    text = read("reproduce")
    shown = [table for given in asked("report", text) for table in given["tables"]]  # type: ignore[attr-defined]
    assert sorted(shown) == sorted([*LAYOUTS, "choices"])
    trained = {given["task"] for given in guides.sweeps(text)}
    assert trained == {layout.task for layout in LAYOUTS.values()}
    assert {given["task"] for given in asked("plan", text)} == trained


@pytest.mark.parametrize("page", ["reproduce", "paper-scale"])
def test_sweeps_are_of_true_presets(page: str, guides: ModuleType) -> None:
    """At the smoke scale, as at any: cells that differ from each other."""
    for given in guides.sweeps(read(page)):
        runs = cells(**given | {"scale": "smoke", "graph": given["graph"] and "2x3,2x4"})
        assert len({run.id for run in runs}) == len(runs) > 1


def test_every_row_of_a_table_is_trained(guides: ModuleType) -> None:
    sweeps = guides.sweeps(read("reproduce"))
    for layout in LAYOUTS.values():
        trained = ",".join(g["objective"] for g in sweeps if g["task"] == layout.task)
        assert {*trained.split(",")} >= {*layout.rows} - {"oracle"}


@pytest.mark.parametrize("page", ["reproduce", "paper-scale"])
def test_plans_are_of_true_presets(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "matrix_rate", lambda: 1e11)
    monkeypatch.setattr(plan_module, "trial", lambda *given: None)  # tried in test_plan.py
    for given in asked("plan", read(page)):
        gpu = given.pop("gpu")
        [run, *_] = cells(**given, seeds=1)  # type: ignore[arg-type]
        rows = list(plan_view(run, gpu).columns[0].cells)  # type: ignore[arg-type]
        assert "arithmetic" in rows


def anchors(path: Path) -> set[str]:
    """GitHub's: lower case, no punctuation, hyphens for blanks."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_readme_leads_to_every_page() -> None:
    linked = LINK.findall(README.read_text(encoding="utf-8"))
    assert {f"docs/{path.name}" for path in PAGES} <= set(linked)


def test_pages_do_not_repeat_each_other() -> None:
    """One home for each idea: no longer sentence, or line of a table, stands twice."""
    seen: dict[str, str] = {}
    for path in [README, *PAGES]:
        prose = re.sub(
            r"```.*?```|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for sentence in re.split(r"(?<=[.:])\s+", " ".join(prose.split())):
            if len(sentence) > 60:
                assert seen.setdefault(sentence, path.name) == path.name, sentence
