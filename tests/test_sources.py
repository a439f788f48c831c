"""Which files a plugin's code is; and no run goes on, or is probed, with other code than it had."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_runs import begin, call, ended, recipe, run_dir, wait_for

from nextlat_bench.report.records import read
from nextlat_bench.run_dir import RunDir, RunDirError
from nextlat_bench.sources import files_of

OWN = """
from dataclasses import dataclass
from typing import ClassVar

from nextlat_bench.tasks.a5 import A5
{}

@dataclass(frozen=True, kw_only=True)
class Own(A5):
    name: ClassVar[str] = "own"
"""
TREE = {
    "lone.py": "import os, numpy\nimport beside\nfrom pack import inner\n",
    "beside.py": "def late():\n    import further.deep\n",
    "further/__init__.py": "",
    "further/deep.py": "from . import near\nfrom .. import beyond\nimport lone",
    "further/near.py": "no Python (",
    "further/other.py": "",
    "pack/__init__.py": "from nextlat_bench import run",
    "pack/inner.py": "from .core import x\nimport unknown",
    "pack/core.py": "x = 1",
    "nextlat_bench/__init__.py": "",
    "nextlat_bench/run.py": "",
    "unasked.py": "",
}


def files(root: Path, module: str, file: str) -> list[str]:
    return [str(path.relative_to(root)) for path in files_of(module, root / file)]


def test_its_own_file_and_all_that_it_imports_from_beside_it(tmp_path: Path) -> None:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    further = ["further/__init__.py", "further/deep.py", "further/near.py"]
    pack = ["pack/__init__.py", "pack/core.py", "pack/inner.py"]
    assert files(tmp_path, "lone", "lone.py") == ["lone.py", "beside.py", *further, *pack]
    assert files(tmp_path, "pack", "pack/__init__.py") == ["pack/__init__.py"]
    assert files(tmp_path, "pack.inner", "pack/inner.py") == ["pack/inner.py", *pack[:2]]
    assert files(tmp_path, "pack.core", "pack/core.py") == ["pack/core.py", "pack/__init__.py"]
    (tmp_path / "lone-1.0.dist-info").mkdir()  # what pip installed
    assert files(tmp_path, "lone", "lone.py") == ["lone.py"]
    assert files(tmp_path, "pack.inner", "pack/inner.py") == ["pack/inner.py", *pack[:2]]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a task of one's own and a file that it imports."""
    (tmp_path / "own_task.py").write_text(OWN.format("import own_world"))
    (tmp_path / "own_world.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module in ("own_task", "own_world"):  # the next test has others of these names
        sys.modules.pop(module, None)


@pytest.mark.parametrize("changed", ["own_task.py", "own_world.py"])
def test_a_run_of_other_code_is_refused_until_it_is_put_back(
    own: Path, changed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = recipe("own_task:Own", own / "runs", "training.steps=2", objective="gpt")
    assert call(asked) == 0
    folder, file = run_dir(own / "runs", "gpt"), own / changed
    before, text = {path: path.read_bytes() for path in folder.iterdir()}, file.read_text()
    capsys.readouterr()
    for again in (asked, ["probe", str(folder)], ["export", str(folder), str(own / "model")]):
        file.write_text(text + "# another\n")
        assert call(again) == 2
        said = capsys.readouterr().err
        assert f"{folder} was begun with other code of the task own: put its file" in said
        assert said.count("\n") == 1
        file.write_text(text)
        assert call(again) == 0
    capsys.readouterr()
    file.write_text(text + "# another\n")
    other = recipe("own_task:Own", own / "others", "training.steps=2", objective="gpt")
    assert call(other) == 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    both = [run_dir(own / name, "gpt") / "records.jsonl" for name in ("runs", "others")]
    old, new = ([record.task_parameters for record in read(path)] for path in both)
    assert all(a["source_digest"] != b["source_digest"] for a, b in zip(old, new, strict=True))


def test_a_sweep_of_ones_own_task_in_its_folder(own: Path) -> None:
    """Its jobs find it there, too; and the report has a table of it."""
    _, *options = recipe("own_task:Own", own / "runs", "training.steps=2", objective="gpt")
    options.remove("--threads")
    options.remove("1")
    process = begin(["sweep", *options, "--seeds", "1"], cwd=own, stdout=subprocess.PIPE)
    printed, errors = ended(process)
    assert process.returncode == 0, errors
    assert f"now: nextlat-bench report own --records {own / 'runs'}" in printed


def test_a_run_that_was_stopped_does_not_go_on_with_other_code(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of it would have been trained on another world."""
    asked = recipe("own_task:Own", own / "runs", "training.steps=100000", objective="gpt")
    process = begin(asked, PYTHONPATH=str(own))
    wait_for(lambda: list((own / "runs").glob("own-gpt-*/metrics.jsonl")), process)
    process.kill()
    ended(process)
    folder = RunDir(run_dir(own / "runs", "gpt"))
    run = folder.run()
    (own / "own_world.py").write_text("SIZE = 2\n")
    assert call(asked) == 2
    assert "begun with other code of the task own" in capsys.readouterr().err
    with pytest.raises(RunDirError, match="begun with other code"):
        RunDir.prepare(own / "runs", run)


def test_another_task_is_another_folder_of_a_model_of_ones_own(own: Path) -> None:
    model = "import numpy as np\nflat = lambda tokens: np.zeros((*tokens.shape, 60))\n"
    (own / "own_model.py").write_text(model)
    asked = ["probe", "--task", "own_task:Own", "--scale", "smoke", "--model", "own_model:flat"]
    asked += ["teacher_forced", "--out", str(own / "runs")]
    for text in (OWN.format(""), OWN.format("# another")):
        (own / "own_task.py").write_text(text)
        sys.modules.pop("own_task", None)
        assert call(asked) == 0
    assert len(list((own / "runs").glob("own-own_model-flat-*/records.jsonl"))) == 2


def test_an_exported_model_of_ones_own_task_is_measured_again_with_other_code(own: Path) -> None:
    run = recipe("own_task:Own", own / "runs", "training.steps=2", objective="gpt")
    assert call(run) == 0
    exported = str(own / "model")
    assert call(["export", str(run_dir(own / "runs", "gpt")), exported]) == 0
    asked = ["probe", "--model", exported, "--task", "own_task:Own", "teacher_forced"]
    for _ in range(2):  # once each
        for text in ("SIZE = 1\n", "SIZE = 2\n"):
            (own / "own_world.py").write_text(text)
            assert call([*asked, "--out", str(own / "copies")]) == 0
    assert len(list((own / "copies").glob("own-gpt-smoke-s0-*/records.jsonl"))) == 2
