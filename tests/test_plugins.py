"""Plugins of other packages: really installed, found by entry point or dotted name, or refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_runs import added, here

EXAMPLE = Path(__file__).parent / "plugin"
SMALL = [
    x
    for setting in ("training.steps=6", "training.examples=16", "decoder.width=32")
    for x in ("--set", setting)
]
RUN = ["--scale", "smoke", *SMALL]


def python(*arguments: str, cwd: Path, path: Path | None) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds the packages in `path` as if they were installed."""
    found = {} if path is None else {"PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"TERM": "dumb", "COLUMNS": "110", "NO_COLOR": "1"} | found,
        timeout=300,
    )


def call(*arguments: str, cwd: Path, path: Path | None) -> str:
    """The command line's standard output; it succeeds."""
    done = python("-m", "nextlat_bench", *arguments, cwd=cwd, path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str, cwd: Path, path: Path | None) -> str:
    """The one line of a refusal, which leaves nothing behind."""
    before = sorted(cwd.iterdir())
    done = python("-m", "nextlat_bench", *arguments, cwd=cwd, path=path)
    check_refusal(done)
    assert sorted(cwd.iterdir()) == before
    return done.stderr


def check_refusal(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("nextlat-bench: ")
    assert done.stderr.count("\n") == 1


def values(records: Path, probe: str) -> dict[tuple[str, str], float | None]:
    rows = map(json.loads, records.read_text().splitlines())
    return {(r["metric"], r["condition"]): r["value"] for r in rows if r["probe"] == probe}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package in a folder of its own, put there by pip."""
    source = tmp_path_factory.mktemp("source") / "plugin"  # building leaves files behind
    shutil.copytree(EXAMPLE, source)
    target = tmp_path_factory.mktemp("site")
    command = f"pip install -q --no-index --no-deps --no-build-isolation --target {target} {source}"
    done = python("-m", *command.split(), cwd=target, path=None)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def run(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of the ring, made by entry-point names."""
    cwd = tmp_path_factory.mktemp("cli")
    call("run", "ring", "--objective", "smooth", *RUN, cwd=cwd, path=installed)
    return next((cwd / "runs").glob("ring-smooth-smoke-s0-*"))


def test_list_names_their_distribution(installed: Path, tmp_path: Path) -> None:
    lines = [" ".join(x.split()) for x in call("list", cwd=tmp_path, path=installed).splitlines()]
    for line in (
        "ring [nextlat-ring] A walk on a ring of nodes, by the toss of a coin. An invalid",
        "smooth [nextlat-ring] Cross-entropy with a share `smoothing` of each target spread",
        "entropy [nextlat-ring] The mean entropy of the next token at the scored positions",
    ):
        assert [x for x in lines if x.startswith(line)]


def test_names_are_found_without_an_import(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from nextlat_bench import registry\n"
        "print(*[n for k in registry.KINDS for n in registry.installed(k)])\n"
        "print(registry.find('objectives', 'smooth').value)\n"
        "print(*[m for m in sys.modules if m.startswith(('nextlat_ring', 'torch'))])"
    )
    done = python("-c", code, cwd=tmp_path, path=installed)
    assert done.stdout == "ring smooth entropy\nnextlat_ring.smooth:Smooth\n\n", done.stderr


def test_sample(installed: Path, tmp_path: Path) -> None:
    by_name = call("sample", "ring", "-n", "3", cwd=tmp_path, path=installed)
    assert len(by_name.splitlines()) == 3
    assert all(" -> " in line and line.endswith(" end") for line in by_name.splitlines())
    dotted = call("sample", "nextlat_ring.ring:Ring", "-n", "3", cwd=tmp_path, path=EXAMPLE)
    assert dotted == by_name


def test_run_and_probe(run: Path, installed: Path) -> None:
    assert (run / "DONE").exists()
    shown = call("probe", str(run), "entropy", cwd=run.parent, path=installed)
    assert "ring: smooth, smoke scale" in shown
    assert "entropy" in shown
    [(key, value)] = values(run / "records.jsonl", "entropy").items()
    assert key == ("entropy", "")
    assert 0 < value < 2.78  # log 16
    shown = " ".join(call("show", str(run), cwd=run, path=None).split())  # reads, imports nothing
    assert "nextlat_ring.ring:Ring: num_nodes 12" in shown
    assert "nextlat_ring.smooth:Smooth: smoothing 0.1" in shown


def test_the_oracle_walks_the_ring(run: Path) -> None:
    """It was measured beside the run."""
    [records] = run.parent.glob("ring-oracle-smoke-*/records.jsonl")
    assert values(records, "trajectories") == {("legal", ""): 1.0, ("reached", ""): 1.0}
    assert values(records, "next_token") == {("legal_top1", ""): 1.0}
    assert values(records, "compression") == {("precision", ""): 1.0}
    assert set(values(records, "distinction").values()) == {1.0}


def test_dotted_names_need_no_entry_point_and_name_the_same_run(run: Path, tmp_path: Path) -> None:
    names = ["nextlat_ring.ring:Ring", "--objective", "nextlat_ring.smooth:Smooth"]
    call("run", *names, *RUN, cwd=tmp_path, path=EXAMPLE)
    again = tmp_path / "runs" / run.name
    assert (again / "run.json").read_bytes() == (run / "run.json").read_bytes()
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    call("probe", str(again), "nextlat_ring.entropy:Entropy", cwd=tmp_path, path=EXAMPLE)
    assert values(again / "records.jsonl", "entropy")


def test_run_json_rebuilds_the_run(run: Path, installed: Path, tmp_path: Path) -> None:
    code = (
        "import json; from nextlat_bench.run import Run\n"
        f"run = Run.from_json(json.load(open({str(run / 'run.json')!r})))\n"
        "print(run.id, type(run.task).__name__, run.objective)"
    )
    for path in (installed, EXAMPLE):
        done = python("-c", code, cwd=tmp_path, path=path)
        assert done.stdout == f"{run.name} Ring Smooth(smoothing=0.1)\n", done.stderr
    message = refused("probe", str(run), cwd=tmp_path, path=None)
    assert "there is no module nextlat_ring; install the package that has it" in message


def distribution(
    folder: Path, name: str, entry_points: dict[str, str], modules: dict[str, str]
) -> None:
    """Files as an installer leaves them. entry_points: "tasks.ring" -> "package.module:Class"."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for key, value in entry_points.items():
        kind, _, plugin = key.partition(".")
        lines.append(f"[nextlat_bench.{kind}]\n{plugin} = {value}\n")
    (info / "entry_points.txt").write_text("".join(lines))
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)


OTHER = """
from abc import abstractmethod
from dataclasses import dataclass
from nextlat_ring.ring import Ring
@dataclass(frozen=True, kw_only=True)
class Other(Ring):
    name = {name!r}
{more}
"""


def other(name: str, more: str = "") -> str:
    return OTHER.format(name=name, more=more)


# what is installed: entry points and modules; what is asked; what the line says
REFUSED: dict[str, tuple[dict[str, str], dict[str, str], list[str], str]] = {
    "typing error": ({}, {}, ["sample", "rign"], "no task named 'rign'; did you mean 'ring'?"),
    "twice": (
        {"tasks.ring": "rings:Other"},
        {"rings": other("ring")},
        ["sample", "ring"],
        "nextlat-ring and other-rings each have a task named 'ring': "
        "name one of them in full (nextlat_ring.ring:Ring or rings:Other)",
    ),
    "broken import": (
        {"tasks.broken": "broken:Broken"},
        {"broken": "import not_there"},
        ["sample", "broken"],
        "broken:Broken (of other-rings) cannot be imported: ModuleNotFoundError: "
        "No module named 'not_there'; mend or uninstall it",
    ),
    "syntax error": (
        {},
        {"broken": "x ="},
        ["sample", "broken:X"],
        "broken:X cannot be imported: Sy",
    ),
    "an exit": ({}, {"ends": "exit(3)"}, ["sample", "ends:X"], "cannot be imported: SystemExit: 3"),
    "missing module": (
        {"probes.gone": "gone.away:Gone"},
        {},
        ["probe", "RUN", "gone"],
        "gone.away:Gone (of other-rings): there is no module gone; install the package that has",
    ),
    "missing class": (
        {},
        {},
        ["sample", "nextlat_ring.ring:Rign"],
        "no class of nextlat_ring.ring named 'Rign'; did you mean 'Ring'?",
    ),
    "no dotted name": ({}, {}, ["sample", "rings.py:Ring()"], "expected package.module:Class"),
    "no task": (
        {},
        {},
        ["sample", "nextlat_ring.smooth:Smooth"],
        "is no Task: derive a class from",
    ),
    "no objective": (
        {"objectives.ring": "nextlat_ring.ring:Ring"},
        {},
        ["run", "ring", "--objective", "ring"],
        "nextlat_ring.ring:Ring (of other-rings) is no Objective: derive a class from "
        "nextlat_bench.objectives._core.Objective",
    ),
    "no probe": ({}, {}, ["probe", "RUN", "json:dumps"], "json:dumps is no Probe: derive a class"),
    "another name": (
        {"tasks.rings": "rings:Other"},
        {"rings": other("round")},
        ["sample", "rings"],
        "rings:Other (of other-rings) has the name 'round', its entry point 'rings': make them",
    ),
    "a built-in name": (
        {},
        {"rings": other("taxi")},
        ["sample", "rings:Other"],
        "rings:Other: 'taxi' is built in; use that, or choose another name",
    ),
    "unsafe name": (
        {},
        {"rings": other("../ring")},
        ["sample", "rings:Other"],
        "rings:Other has the name '../ring': expected a-z, 0-9, _ and - alone",
    ),
    "no dataclass": (
        {},
        {"bare": "from nextlat_bench.tasks._core import Task\nclass Bare(Task): name = 'bare'"},
        ["sample", "bare:Bare"],
        "bare:Bare needs the decorator @dataclass(frozen=True, kw_only=True)",
    ),
    "abstract": (
        {},
        {"rings": other("round", "    @abstractmethod\n    def check(self, p, c): ...")},
        ["sample", "rings:Other"],
        "rings:Other lacks check",
    ),
    "no default": (
        {},
        {"rings": other("round", "    laps: int")},
        ["sample", "rings:Other"],
        "rings:Other: give laps a default",
    ),
    "no preset": (
        {"presets.ring": "json"},
        {},
        ["sample", "ring"],
        "json (of other-rings) is no preset: it needs the functions run and probes",
    ),
    "another task's preset": (
        {"presets.ring": "nextlat_bench.presets.a5"},
        {},
        ["sample", "ring"],
        "the preset ring is of another task than ring: rename one",
    ),
    "paper": ({}, {}, ["plan", "ring"], "--scale paper: the paper has no ring; use smoke or"),
    "streets": ({}, {}, ["sample", "ring", "--streets", "x"], "--streets is not for ring"),
    "graph": ({}, {}, ["sample", "ring", "--graph", "2x5"], "--graph is not for ring"),
    "bad field": (
        {},
        {},
        ["sample", "ring", "--set", "task.num_nodes=2"],
        "Ring.num_nodes = 2: expected an integer of at least 3",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, installed: Path, run: Path, tmp_path: Path) -> None:
    entry_points, modules, arguments, message = REFUSED[case]
    site, cwd = tmp_path / "site", tmp_path / "cwd"
    shutil.copytree(installed, site)
    cwd.mkdir()
    distribution(site, "other-rings", entry_points, modules)
    arguments = [str(run) if a == "RUN" else a for a in arguments]
    with added(site):
        done = here(*arguments, cwd=cwd)
    check_refusal(done)
    assert message in done.stderr
    assert not list(cwd.iterdir())


def test_a_built_in_wins_and_a_broken_one_does_not_break_the_list(
    installed: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    shutil.copytree(installed, site)
    names = {"tasks.a5": "rings:Other", "tasks.broken": "rings:Other"}
    distribution(site, "other-rings", names, {"rings": "raise RuntimeError('two\\nlines')"})
    with added(site):
        assert " = " in here("sample", "a5", "-n", "1").stdout
        listed = here("list", "tasks").stdout.splitlines()
    found = [" ".join(line.split()) for line in listed if "other-rings" in line]
    assert found == [
        "a5 [other-rings] not used: this name is built in",
        "broken [other-rings] broken: rings:Other (of other-rings) cannot be imported: "
        "RuntimeError: two lines; mend or uninstall it",
    ]
    assert [line for line in listed if "[nextlat-ring] A walk" in line]


PRESET = """
from nextlat_bench.presets._general import probes
from nextlat_bench.presets import _general
from nextlat_ring.ring import Ring
def run(objective, scale, seed, streets="4"):
    return _general.run(Ring(num_nodes=int(streets)), objective, scale, seed)
"""


def test_a_preset_of_its_own(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path / "site")
    distribution(tmp_path / "site", "sizes", {"presets.ring": "sizes"}, {"sizes": PRESET})
    for options, num_nodes in ([], 4), (["--streets", "9"], 9):
        with added(tmp_path / "site"):
            lines = here("sample", "ring", "-n", "200", *options).stdout.splitlines()
        assert max(int(line.split()[0]) for line in lines) == num_nodes - 1


def test_a_task_without_a_world(tmp_path: Path) -> None:
    """It has no oracle, and what asks for a world does not apply."""
    more = "    def world(self): return None\n    def check(self, p, c): return p[:, 0] >= 0"
    (tmp_path / "blind.py").write_text(other("blind", more))
    path = Path(f"{tmp_path}{os.pathsep}{EXAMPLE}")
    call("run", "blind:Other", "--objective", "gpt", *RUN, cwd=tmp_path, path=path)
    [folder] = (tmp_path / "runs").iterdir()
    assert set(values(folder / "records.jsonl", "next_token").values()) == {None}
    assert set(values(folder / "records.jsonl", "accuracy").values()) == {1.0}
    message = refused("probe", "oracle", "--task", "blind:Other", cwd=tmp_path, path=path)
    assert "Other has no world: no subject of it is known" in message


MENDED = '''
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from nextlat_bench.probes._core import Measurement, Metric, Probe


@dataclass(frozen=True, kw_only=True)
class Constant(Probe):
    """Says a number."""

    name: ClassVar[str] = "constant"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("number", True, "count", "a number"),)

    def measure(self, subject, task, rng) -> Iterator[Measurement]:
        yield Measurement("{metric}", {value}, {value}, {value}, 1)
'''


def test_a_probe_that_was_mended_is_asked_again(tmp_path: Path) -> None:
    """Once: its older answer is gone, and the same file is not asked twice."""
    asked = ["probe", "uniform", "constant:Constant", "--task", "a5", "--scale", "smoke"]
    for value in (1, 1, 2):
        (tmp_path / "constant.py").write_text(MENDED.format(metric="number", value=value))
        with added(tmp_path):
            assert here(*asked, cwd=tmp_path).returncode == 0
        [records] = tmp_path.glob("runs/*/records.jsonl")
        assert values(records, "constant") == {("number", ""): float(value)}
        assert records.read_text().count("\n") == 1
    (tmp_path / "constant.py").write_text(MENDED.format(metric="nombre", value=3))
    with added(tmp_path):
        done = here(*asked, cwd=tmp_path)
    check_refusal(done)
    assert "probe constant: 'nombre' is none of its metrics" in done.stderr
