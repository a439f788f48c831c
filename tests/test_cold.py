"""What somebody meets who tries the program cold."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_runs import begin, here, recipe, run_dir, wait_for

from nextlat_bench.console import console, follows
from nextlat_bench.report.records import collect
from nextlat_bench.report.tables import table
from nextlat_bench.run_dir import RunDir
from nextlat_bench.tasks._core import Task
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.countdown import Countdown
from nextlat_bench.tasks.path_star import PathStar
from nextlat_bench.tasks.taxi import Taxi


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a run, and the oracle beside them."""
    out = tmp_path_factory.mktemp("cold") / "runs"
    for seed in ("0", "1"):
        asked = recipe("path_star", out, "training.steps=2", objective="gpt")
        assert here(*asked, "--seed", seed).returncode == 0
    return out


def test_its_version() -> None:
    assert here("--version").stdout == "nextlat-bench 0.1.0\n"


@pytest.mark.parametrize(
    ("verb", "rank", "world", "silent"),
    [
        ("run", "1", "2", True),
        ("run", "0", "2", False),
        ("run", "1", "", False),
        ("run", "1", "1", False),
        ("report", "1", "2", False),
    ],
)
def test_who_is_silent(
    verb: str, rank: str, world: str, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods set these variables for one process, too, and for verbs that train nothing."""
    monkeypatch.setattr(sys, "argv", ["nextlat-bench", verb, "a5"])
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert follows() == silent
    assert console().quiet == silent


def test_a_copy_leaves_the_row_of_its_siblings_alone(runs: Path, tmp_path: Path) -> None:
    """The exported model is the run's, and would be counted twice."""
    exported = str(tmp_path / "exported")
    assert here("export", str(run_dir(runs, "gpt")), exported).returncode == 0
    copies = str(tmp_path / "copies")
    asked = ["probe", "--model", exported, "--task", "path_star", "--out", copies]
    assert here(*asked, "teacher_forced").returncode == 0
    blocks = table("path_star", [*collect(runs), *collect(Path(copies))]).blocks(seeds=False)
    rows = [row for block in blocks.values() for row in block if row.objective == "gpt"]
    seeds = [row.num_seeds for row in rows if row.source == "measured" and row.num_seeds]
    assert sorted(seeds) == [1, 2]


def test_show_says_what_is_there(runs: Path) -> None:
    [known] = runs.glob("path_star-oracle-*")
    refused = here("show", str(known))
    assert refused.returncode == 2
    assert "It holds measurements, which nextlat-bench report --records shows" in refused.stderr
    folder = run_dir(runs, "gpt")
    weights, done = folder / "model.safetensors", folder / "DONE"
    assert "done" in here("show", str(folder)).stdout
    weights.rename(folder / "away")
    assert "done, but without model.safetensors" in here("show", str(folder)).stdout
    (folder / "away").rename(weights)
    done.rename(folder / "later")
    assert "trained, not all measured" in here("show", str(folder)).stdout
    with RunDir(folder).lock():
        assert "being measured" in here("show", str(folder)).stdout
    assert not RunDir(folder).in_use
    (folder / "later").rename(done)


def test_show_tells_a_stopped_run_from_one_at_work(tmp_path: Path) -> None:
    asked = recipe("path_star", tmp_path, "training.steps=100000", objective="gpt")
    process = begin(asked, NEXTLAT_BENCH_CHECKPOINT_SECONDS="0")
    wait_for(lambda: any(tmp_path.glob("*/checkpoints/0000000[1-9]")), process)
    folder = str(run_dir(tmp_path, "gpt"))
    assert "being trained" in here("show", folder).stdout
    process.kill()
    process.communicate()
    step = int(RunDir(folder).saved()[-1].name)
    assert f"stopped; the same command goes on from step {step}" in here("show", folder).stdout


def test_words_and_answers_that_cannot_be() -> None:
    task = A5(group="S3", length=12)
    words = task.prompts("test", 0, 3)
    answers = task.answers(words)
    assert task.check(words, answers).all()
    for wrong in (answers[:, :0], answers[:1], answers[0]):
        with pytest.raises(ValueError, match="expected a product for each element"):
            task.check(words, wrong)
    for off in (-6, 1000):
        with pytest.raises(ValueError, match="expected elements, 0 to 5"):
            task.check(words + off, answers)
    with pytest.raises(ValueError, match=r"words of shape \(36,\): expected \(n, L\)"):
        task.answers(np.ravel(words))


@pytest.mark.parametrize("task", [Taxi(radius=500), PathStar(), Countdown()], ids=lambda t: t.name)
def test_prompts_without_completions(task: Task) -> None:
    prompts = task.prompts("test", 0, 3)
    for wrong in (prompts[:2], prompts[:1], prompts[0]):
        with pytest.raises(ValueError, match=r"expected \(n, P\) and \(n, C\)"):
            task.check(prompts, wrong)
    for off in (-1000, 10**6):
        with pytest.raises(ValueError, match=f"token .*: expected 0 to {len(task.vocab) - 1}"):
            task.text(prompts[0] + off)


STOPPED = """
import sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "nextlat_bench.cli.options":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
from nextlat_bench.__main__ import main
main()
"""


def test_stopped_before_it_is_all_imported() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\nstopped\n")
