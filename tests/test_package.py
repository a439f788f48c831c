"""The package itself: folders, layers, what an import costs, and guards that experience taught."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from nextlat_bench import registry

ROOT = Path(__file__).parents[1]
FOLDERS = {"nextlat_bench": "nextlat_bench", "tasks": "nextlat_bench.tasks"}
FOLDERS |= {"probes": "nextlat_bench.probes", "results": "nextlat_bench.results"}

# A module may import its own layer and those above it in this list.
LAYERS = [
    {"files", "registry", "sources", "tasks", "run", "run_dir", "console", "__init__"},
    {
        "adapters",
        "decoder",
        "device",
        "export",
        "kernels",
        "known",
        "llama",
        "model",
        "objectives",
        "optimizers",
        "parallel",
        "provenance",
        "scripted",
        "sharding",
        "data",
        "train",
        "generate",
        "ideal",
        "speculate",
        "subject",
        "taggers",
        "trained",
        "workers",
    },
    {"probes"},
    {"measure", "plan", "presets", "samples", "show"},
    {"job", "ray_engine", "sweep"},
    {"cli", "__main__"},
]
HEAVY = ("torch", "pandas", "matplotlib", "osmnx", "sklearn", "ray", "networkx")


def modules() -> dict[str, Path]:
    """Every module of the suite by its import name."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder).with_suffix("")
            found[".".join([package, *relative.parts]).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules of the suite that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nextlat_bench"):
            found.add(node.module or "")
            if node.module == "nextlat_bench":
                found |= {f"nextlat_bench.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> int | None:
    part = [*module.split("."), "__init__"][1]
    return next((i for i, names in enumerate(LAYERS) if part in names), None)


def test_packages_match_the_folders() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = set(project["tool"]["setuptools"]["packages"])
    present = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert declared == present
    mapped = project["tool"]["setuptools"]["package-dir"]
    assert {v: k for k, v in mapped.items()} == FOLDERS


def test_every_file_that_is_read_ships() -> None:
    """Maps, records, the paper's numbers, the page's template: each matches a declared pattern."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name: ROOT / project["package-dir"].get(name, name) for name in FOLDERS.values()}
    shipped = {
        path
        for name, patterns in project["package-data"].items()
        for pattern in patterns
        for path in packages[name].glob(pattern)
    }
    found = {path for folder in packages.values() for path in folder.rglob("*") if path.is_file()}
    rendered = ROOT / "results" / "rendered"  # for readers of the repository
    left = {p for p in found - shipped if p.suffix not in {".py", ".pyc"}}
    assert [p.name for p in left if p.parent != rendered] == []
    assert {"page.html", "page.css", "page.js", "published.toml"} <= {p.name for p in shipped}


def test_left_never_imports_right() -> None:
    for name, path in modules().items():
        if name.startswith(("nextlat_bench.report", "nextlat_bench.results")):
            continue
        own = layer(name)
        assert own is not None, f"{name} has no layer"
        for imported in imports(path) - {"nextlat_bench"}:
            if imported.startswith("nextlat_bench.report"):
                continue
            its = layer(imported)
            assert its is not None, f"{imported} has no layer"
            assert its <= own, f"{name} imports {imported}, which is to its right"


def test_report_imports_neither_torch_nor_tasks() -> None:
    for name, path in modules().items():
        if name.startswith("nextlat_bench.report"):
            bad = [m for m in imports(path) if not m.startswith("nextlat_bench.re")]
            light = {"nextlat_bench", "nextlat_bench.files"}
            assert not set(bad) - light, f"{name}: {bad}"


def test_modules_stay_short() -> None:
    too_long = {n: len(p.read_text().splitlines()) for n, p in modules().items()}
    assert {n: lines for n, lines in too_long.items() if lines > 400} == {}


@pytest.mark.parametrize("folder", ["tasks", "probes"])
def test_bare_import_is_refused(folder: str) -> None:
    """`import tasks` from the root would make a second copy of every class."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {folder}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert f"import nextlat_bench.{folder}, not {folder}" in done.stderr


def loaded_by(code: str) -> set[str]:
    listing = f"{code}\nimport sys; print(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import nextlat_bench",
        "import nextlat_bench.cli",
        "from nextlat_bench import registry; [registry.summary('probes', n) "
        "for n in registry.names('probes')]",
        "from nextlat_bench.scripted import Oracle",
        "from nextlat_bench.probes.rank import effective_rank",
        "import nextlat_bench.generate, nextlat_bench.known",
        "from nextlat_bench.tasks.taxi import Taxi; Taxi().sample('train', 0, 10)",
    ],
)
def test_light_imports_stay_light(code: str) -> None:
    assert loaded_by(code) == set()


def test_importing_the_report_loads_no_torch() -> None:
    assert "torch" not in loaded_by("import nextlat_bench.report.tables")


@pytest.mark.parametrize("kind", ["tasks", "objectives", "probes"])
def test_a_files_name_is_its_plugins_name(kind: registry.Kind) -> None:
    assert registry.names(kind)
    for name in registry.names(kind):
        plugin = registry.load(kind, name)
        assert plugin.name == name
        assert plugin.__module__ == f"nextlat_bench.{kind}.{name}"
        assert registry.summary(kind, name)
        instance = plugin()
        assert registry.from_json(kind, registry.to_json(instance)) == instance


def test_unknown_names_say_what_was_perhaps_meant() -> None:
    with pytest.raises(ValueError, match=r"no task named 'taxy'; did you mean 'taxi'\? \(there"):
        registry.load("tasks", "taxy")
    with pytest.raises(ValueError, match="no parameter of taxi named 'radios'; did you mean 'rad"):
        registry.from_json("tasks", {"name": "taxi", "parameters": {"radios": 3}})


@pytest.mark.parametrize("name", sorted(modules()))
def test_all_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public)


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of this git checkout."""
    listed = ["git", "-C", str(ROOT), "ls-files"]
    found = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()
    if not found:
        pytest.skip("not a git checkout")
    return found


def test_the_source_distribution_has_all_that_its_tests_and_documents_need(
    tracked: list[str], tmp_path: Path
) -> None:
    for name in tracked:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    build = "import setuptools.build_meta as b; print(b.build_sdist('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True
    )
    with tarfile.open(tmp_path / "dist" / done.stdout.split()[-1]) as made:
        inside = {name.partition("/")[2] for name in made.getnames()}
    assert not [name for name in tracked if name not in inside and name[0] != "."]


def test_no_registry_host_and_no_path_of_one_machine(tracked: list[str]) -> None:
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", os.sep + "work" + os.sep)
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".toml", ".md", ".txt", ""} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not [h for h in hosts if h in text], name


def test_lists_kept_by_hand_are_whole() -> None:
    """Help that loads no plugin, and looks and names in figures and tables."""
    from nextlat_bench.cli import options
    from nextlat_bench.registry import names
    from nextlat_bench.report.columns import LABELS
    from nextlat_bench.report.figures.a5 import ORDERS
    from nextlat_bench.report.figures.style import LOOKS
    from nextlat_bench.tasks._groups import GROUPS, multiplication_table

    objectives = set(names("objectives"))
    assert set(LOOKS) == objectives
    assert objectives < set(LABELS)
    for option, of in ((options.TaskName, set(names("tasks"))), (options.Objective, objectives)):
        said = set(re.findall(r"\w+", option.__metadata__[0].help))
        assert of <= said
    assert {group: len(multiplication_table(group)) for group in GROUPS} == ORDERS
