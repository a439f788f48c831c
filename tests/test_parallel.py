"""Two real processes under torchrun train as one does; checkpoints of either load in the other."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from real_runs import here

from nextlat_bench import parallel
from nextlat_bench.run_dir import RunDir

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
FIRST_OF_TWO = {"WORLD_SIZE": "2", "RANK": "0"}  # as torchrun tells its first process
TINY = (
    "training.steps=24",
    "training.examples=32",
    "training.precision=fp32",
    "decoder.layers=1",
    "decoder.width=32",
    "decoder.zero_init_residual=false",
    "task.max_nodes=8",
    "training.row_length=20",
)

# Trains until a step, checkpointing after each; the whole run if the step is 0.
PART = """
import sys
from pathlib import Path
from nextlat_bench import parallel
from nextlat_bench.presets import taxi
from nextlat_bench.run_dir import RunDir
from nextlat_bench.train import train

out, last, sharded, *settings = sys.argv[1:]

class Enough(Exception):
    pass

def progress(p):
    if p.step == int(last):
        raise Enough

with parallel.group("cpu"):
    run = taxi.run("nextlat", "smoke", 0).override(settings)
    try:
        train(run, RunDir.prepare(out, run), device="cpu", progress=progress,
              sharded=sharded == "sharded", seconds_between_checkpoints=0)
    except Enough:
        pass
"""


def call(command: list[str], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )


def by_one(part: Path, *arguments: str) -> None:
    """The part in this process: another would need as long to import torch as to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(part), *arguments])
        runpy.run_path(str(part))


def by_two(part: Path, *arguments: str) -> None:
    done = call(TORCHRUN, str(part), *arguments)
    assert done.returncode == 0, done.stderr


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of the one process that speaks; torchrun itself says much more."""
    assert done.returncode != 0
    assert "[rank" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("nextlat-bench: ")]
    return line


def losses(folder: RunDir) -> list[float]:
    return [row[name] for row in folder.metric_rows() for name in ("loss", "latent", "kl")]


def made(out: Path) -> RunDir:
    [path] = out.glob("taxi-nextlat-smoke-*")
    return RunDir(path)


def with_parts(parts: int) -> tuple[str, ...]:
    """Muon multiplies in bf16, which makes much of the rounding of a sum of four."""
    optimizer = "muon" if parts == 2 else "adamw"
    return (*TINY, f"training.micro_batches={parts}", f"training.optimizer={optimizer}")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("part") / "part.py"
    path.write_text(PART)
    return path


@pytest.fixture(scope="module")
def alone(part: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """One process's run with two micro-batches."""
    out = tmp_path_factory.mktemp("alone")
    by_one(part, str(out), "0", "whole", *with_parts(2))
    return made(out)


def test_two_processes_train_as_one(part: Path, alone: RunDir, tmp_path: Path) -> None:
    by_two(part, str(tmp_path), "0", "whole", *with_parts(2))
    together = made(tmp_path)
    assert len(losses(together)) == 9
    np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-4, atol=1e-6)
    assert together.model.read_bytes() == alone.model.read_bytes()  # a + b = b + a
    facts = json.loads(together.provenance.read_text())
    assert facts["processes"] == 2
    tokens = [
        json.loads(folder.trained.read_text())["tokens_since_start_or_resume"]
        for folder in (together, alone)
    ]
    assert tokens[0] == tokens[1]


def test_checkpoints_of_either_load_in_the_other(part: Path, alone: RunDir, tmp_path: Path) -> None:
    """Two processes begin, one goes on, two finish."""
    for begin, last in ((by_two, 9), (by_one, 17), (by_two, 0)):
        begin(part, str(tmp_path), str(last), "whole", *with_parts(2))
        assert last == 0 or int(made(tmp_path).saved()[-1].name) == last - 1
    assert made(tmp_path).model.read_bytes() == alone.model.read_bytes()


def test_two_processes_with_half_of_the_weights_each_train_as_one(
    part: Path, tmp_path: Path
) -> None:
    """Through a checkpoint in each direction: sharded, whole, sharded."""
    settings = (*with_parts(4), "training.clip=0.5", "decoder.layers=2")
    plan = [(by_two, "9", "sharded"), (by_one, "17", "whole"), (by_two, "0", "sharded")]
    for begin, last, how in plan:
        begin(part, str(tmp_path / "sharded"), last, how, *settings)
    by_one(part, str(tmp_path / "one"), "0", "whole", *settings)
    one, sharded = made(tmp_path / "one"), made(tmp_path / "sharded")
    np.testing.assert_allclose(losses(sharded), losses(one), rtol=1e-4, atol=1e-6)
    norms = [[row["gradient_norm"] for row in d.metric_rows()] for d in (sharded, one)]
    np.testing.assert_allclose(*norms, rtol=1e-3)
    weights = [safetensors.numpy.load_file(folder.model) for folder in (sharded, one)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=2e-3, err_msg=name)


def test_each_process_keeps_half_of_the_weights(tmp_path: Path) -> None:
    script = tmp_path / "half.py"
    script.write_text(
        "from nextlat_bench import parallel, sharding\n"
        "from nextlat_bench.presets import taxi\n"
        "from nextlat_bench.train import build\n"
        "with parallel.group('cpu'):\n"
        "    blocks = build(taxi.run('gpt', 'smoke', 0)).decoder.blocks\n"
        "    before = sum(p.numel() for p in blocks.parameters())\n"
        "    sharding.shard(blocks)\n"
        "    after = sum(sharding.here(p).numel() for p in blocks.parameters())\n"
        "    print(f'{before} {after}\\n', end='', flush=True)\n"  # in one piece: two share a pipe
    )
    done = call(TORCHRUN, str(script))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        before, after = map(int, line.split())
        assert after == before // 2


def test_sharding_is_refused_where_it_makes_no_sense(tmp_path: Path) -> None:
    command = ["run", "a5", "--scale", "smoke", "--shard", "--out", str(tmp_path)]
    command += ["--device", "cpu"]  # one GPU would not do for two
    alone = here(*command)
    assert alone.returncode == 2
    assert "start them with torchrun" in alone.stderr
    assert "add --set training.optimizer=adamw" in refusal(here(*command, **FIRST_OF_TWO))
    assert not list(tmp_path.iterdir())


def test_the_command_under_torchrun(tmp_path: Path) -> None:
    """Trained by both, probed, shown and finished by the first; refused with one line."""
    command = [*TORCHRUN, "-m", "nextlat_bench", "run", "a5", "--scale", "smoke"]
    command += ["--device", "cpu"]
    settings = ["--set", "training.steps=6", "--out", str(tmp_path / "runs")]
    done = call(command, *settings)
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "runs").glob("a5-nextlat-smoke-*")
    assert (path / "DONE").exists()
    assert done.stdout.count("training 6/6") == 1
    odd = call(command, *settings, "--set", "training.micro_batches=3")
    assert "expected a multiple of the 2 processes" in refusal(odd)
    assert list((tmp_path / "runs").glob("a5-nextlat-*")) == [path]
    (path / "DONE").unlink()
    with RunDir(path).lock():
        assert "in use by another process" in refusal(call(command, *settings))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with (
        pytest.raises(ValueError, match=r"2 processes .* has 1 GPU.* --device cpu"),
        parallel.group("cuda"),
    ):
        pass


def test_a_sweep_is_refused_under_torchrun(tmp_path: Path) -> None:
    """Its jobs would inherit where to meet, and wait for each other for ever."""
    done = here("sweep", "a5", "--scale", "smoke", "--out", str(tmp_path), **FIRST_OF_TWO)
    assert done.returncode == 2
    assert "start it without torchrun" in refusal(done)
    assert not list(tmp_path.iterdir())
