"""SIGKILL at random moments of training and probing: the same command ends with the same bytes."""

import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from real_runs import PATIENCE, begin, call, ended, outcome, recipe

SETTINGS = ("training.steps=120", "task.max_nodes=8", "training.row_length=20")
OFTEN = {"NEXTLAT_BENCH_CHECKPOINT_SECONDS": "0.1"}

Tables = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert call(recipe("taxi", out, *SETTINGS)) == 0
    return outcome(out)


def killed(process: subprocess.Popen[str], out: Path, phase: str, delay: float) -> bool:
    """Kills it `delay` seconds after it first wrote in that phase; False where it ended before."""

    def written() -> set[tuple[Path, int]]:
        if phase == "training":  # a further checkpoint than the first, so that state is restored
            return {(path, 0) for path in out.glob("*/checkpoints/0*[1-9]*")}
        return {(path, path.stat().st_size) for path in out.glob("*/records.jsonl")}

    before = written()
    deadline = time.monotonic() + PATIENCE
    while written() == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    _, errors = ended(process)
    assert process.returncode in (0, -9), errors
    return process.returncode == -9


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments(
    kills: int, undisturbed: dict[str, bytes], tables: Tables, tmp_path: Path
) -> None:
    """Run after run is killed, now in training and now in probing, and brought to its end."""
    rng = np.random.default_rng(kills)
    hits: Counter[str] = Counter()
    runs, out = 0, tmp_path / "0"
    command = recipe("taxi", out, *SETTINGS)
    while hits.total() < kills:
        trained = bool(list(out.glob("*/trained.json")))
        phase = "probing" if trained or hits.total() % 3 == 2 else "training"
        if killed(begin(command, **OFTEN), out, phase, rng.uniform(0, 0.4)):
            hits["probing" if list(out.glob("*/trained.json")) else "training"] += 1
        else:
            assert outcome(out) == undisturbed
            runs, out = runs + 1, tmp_path / f"{runs + 1}"
            command = recipe("taxi", out, *SETTINGS)
    assert call(command) == 0
    assert outcome(out) == undisturbed
    assert min(hits["training"], hits["probing"]) >= max(1, kills // 5)
    said = f"the same bytes, of {runs + 1} runs"
    rows = [(f"in {phase}", times, said) for phase, times in hits.items()]
    tables.setdefault("kills", [("SIGKILL", "times", "in the end")]).extend(rows)
