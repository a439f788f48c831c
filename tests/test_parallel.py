"""Two real processes under torchrun train as one does; checkpoints of either load in the other."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.numpy
from real_runs import here

from nextlat_bench import job, parallel
from nextlat_bench.presets import taxi
from nextlat_bench.report.records import Record
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

# For each job (out, step, how, settings) it trains until that step, checkpointing after each; the
# whole run if the step is 0. Then it says how many weights a process has before sharding, after it
# and after a forward pass, and stops since a number in the part of another is none.
PART = """
import json
import sys
import torch
from nextlat_bench import parallel, sharding
from nextlat_bench.presets import taxi
from nextlat_bench.run_dir import RunDir
from nextlat_bench.model import build
from nextlat_bench.train import DivergedError, check_finite, train

def weights(blocks):
    return sum(sharding.here(p).numel() for p in blocks.parameters())

class Enough(Exception):
    pass

with parallel.group("cpu"):
    for out, last, how, settings in json.loads(sys.argv[1]):
        def progress(p):
            if p.step == last:
                raise Enough
        run = taxi.run("nextlat", "smoke", 0).override(settings)
        try:
            train(run, RunDir.prepare(out, run), device="cpu", progress=progress,
                  sharded=how == "sharded", seconds_between_checkpoints=0)
        except Enough:
            pass
    if "--count" in sys.argv:
        model = build(taxi.run("gpt", "smoke", 0))
        blocks = model.decoder.blocks
        said = [weights(blocks)]
        sharding.shard(blocks, "cpu")
        said.append(weights(blocks))
        model.decoder(torch.zeros(1, 4, dtype=torch.long))
        said.append(weights(blocks))
        check_finite(model, RunDir("nowhere"), 1)
        if parallel.rank():
            sharding.here(next(blocks.parameters())).data[0] = float("nan")
        try:
            check_finite(model, RunDir("nowhere"), 1)
        except DivergedError:
            said.append("stopped")
        # In one piece: print writes one for each value where Python's output is not buffered,
        # and those of the two processes would mix.
        sys.stdout.write(" ".join(map(str, said)) + "\\n")
        sys.stdout.flush()
"""

Job = tuple[Path, int, str, tuple[str, ...]]


def call(command: list[str], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )


def by_one(part: Path, *jobs: Job) -> None:
    """In this process: another would need as long to import torch as to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(part), json.dumps(jobs, default=str)])
        runpy.run_path(str(part))


def by_two(part: Path, *jobs: Job, options: Iterable[str] = ()) -> str:
    done = call(TORCHRUN, str(part), json.dumps(jobs, default=str), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


class Trained(NamedTuple):
    """Folders by who trained them, and what each of two processes said of its weights."""

    alone: Path
    together: Path
    in_turn: Path
    alone_in_four: Path
    sharded_in_turn: Path
    counted: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """In turn is through a checkpoint in each direction: two processes, one, two."""
    out = tmp_path_factory.mktemp("trained")
    part = out / "part.py"
    part.write_text(PART)
    folders = [out / name for name in Trained._fields[:-1]]
    alone, together, in_turn, alone_in_four, sharded_in_turn = folders
    halves = with_parts(2)
    quarters = (*with_parts(4), "training.clip=0.5", "decoder.layers=2")

    def saved() -> list[int]:
        return [int(made(folder).saved()[-1].name) for folder in (in_turn, sharded_in_turn)]

    begun = [(in_turn, 9, "whole", halves), (sharded_in_turn, 9, "sharded", quarters)]
    counted = by_two(part, (together, 0, "whole", halves), *begun, options=["--count"])
    assert saved() == [8, 8]
    by_one(
        part,
        (alone, 0, "whole", halves),
        (alone_in_four, 0, "whole", quarters),
        (in_turn, 17, "whole", halves),
        (sharded_in_turn, 17, "whole", quarters),
    )
    assert saved() == [16, 16]
    by_two(part, (in_turn, 0, "whole", halves), (sharded_in_turn, 0, "sharded", quarters))
    return Trained(*folders, counted)


def test_two_processes_train_as_one(trained: Trained) -> None:
    alone, together = made(trained.alone), made(trained.together)
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
    seconds = json.loads(together.trained.read_text())["seconds_since_start_or_resume"]
    assert together.metric_rows()[-1]["tokens_per_second"] > 0.7 * tokens[0] / seconds  # of both


def test_checkpoints_of_either_load_in_the_other(trained: Trained) -> None:
    assert made(trained.in_turn).model.read_bytes() == made(trained.alone).model.read_bytes()


def test_two_processes_with_half_of_the_weights_each_train_as_one(trained: Trained) -> None:
    one, sharded = made(trained.alone_in_four), made(trained.sharded_in_turn)
    np.testing.assert_allclose(losses(sharded), losses(one), rtol=1e-4, atol=1e-6)
    norms = [[row["gradient_norm"] for row in d.metric_rows()] for d in (sharded, one)]
    np.testing.assert_allclose(*norms, rtol=1e-3)
    weights = [safetensors.numpy.load_file(folder.model) for folder in (sharded, one)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=2e-3, err_msg=name)


def test_each_process_keeps_half_of_the_weights(trained: Trained) -> None:
    lines = trained.counted.splitlines()
    assert len(lines) == 2
    for line in lines:
        before, after, later, _ = line.split()
        assert int(after) == int(later) == int(before) // 2  # apart again when a block is done


def test_what_is_wrong_in_the_part_of_one_stops_all(trained: Trained) -> None:
    """Or the others would wait for it for ever."""
    assert [line.split()[-1] for line in trained.counted.splitlines()] == ["stopped", "stopped"]


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


def test_micro_batches_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short examples may fill fewer rows than there are micro-batches."""
    monkeypatch.setattr(parallel, "size", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    assert parallel.own([0, 1, 2, 3]) == [1, 3]
    with pytest.raises(ValueError, match="fill 3 rows, which 2 processes cannot share evenly"):
        parallel.own([0, 1, 2])


def test_as_many_micro_batches_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than processes are not enough."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    parallel.check_parts(4)
    with pytest.raises(ValueError, match="micro_batches = 3: expected a multiple of the 2 proc"):
        parallel.check_parts(3)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with (
        pytest.raises(ValueError, match=r"2 processes .* has 1 GPU.* --device cpu"),
        parallel.group("cuda"),
    ):
        pass


def test_nobody_waits_for_a_process_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's group is left together, or not at all; the end of a process is enough for torchrun."""
    left: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")  # and no LOCAL_RANK, as some launchers have it
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda i: left.append(f"GPU {i}"))
    monkeypatch.setattr(
        "torch.distributed.init_process_group", lambda kind, timeout: left.append(kind)
    )
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: left.append("left"))
    begun = ["GPU 0", "cpu:gloo,cuda:nccl"]
    with pytest.raises(RuntimeError, match="no room"), parallel.group("cuda"):
        raise RuntimeError("no room")
    assert left == begun
    with parallel.group("cuda"):
        pass
    assert left == [*begun, *begun, "left"]
    with pytest.raises(RuntimeError, match="no room"), parallel.group("cpu"):
        raise RuntimeError("no room")
    assert left[-2:] == ["gloo", "left"]


def test_a_run_is_probed_when_the_others_have_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their GPUs are free by then."""
    told: list[str] = []

    @contextmanager
    def group(device: str) -> Iterator[None]:
        told.append("met")
        yield
        told.append("left")

    def measured(*arguments: object) -> list[Record]:
        told.append("probed")
        assert folder.in_use
        return []

    monkeypatch.setattr(parallel, "group", group)
    monkeypatch.setattr(job, "train_run", lambda *arguments: told.append("trained"))
    monkeypatch.setattr(job, "measure_run", measured)
    monkeypatch.setattr(job, "measure_reference", lambda *arguments: [])
    folder = RunDir.prepare(tmp_path, taxi.run("gpt", "smoke", 0))
    job.finish(folder, job.How("cpu"), job.Asked())
    assert told == ["met", "trained", "left", "probed"]
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    assert job.finish(folder, job.How("cpu"), job.Asked()) == ([], [])
    assert told[4:] == ["met", "trained", "left"]


def test_a_lost_process_is_a_line_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another machine goes down, and torchrun here does not know yet."""

    def finish(*arguments: object) -> None:
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")

    monkeypatch.setattr(job, "finish", finish)
    command = ["run", "a5", "--scale", "smoke", "--set", "training.micro_batches=2"]
    done = here(*command, "--device", "cpu", "--out", str(tmp_path), **FIRST_OF_TWO)
    assert done.returncode == 2
    line = refusal(done)
    assert "another process of this training was lost" in line
    assert "reset by peer" in line
    assert line.endswith("the same command goes on from the last checkpoint")


@pytest.mark.parametrize("size", ["abc", "0", "-1", "2.5"])
def test_a_number_of_processes_that_is_none(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match=f"WORLD_SIZE={size} in the environment"):
        parallel.begun()


def test_a_sweep_is_refused_under_torchrun(tmp_path: Path) -> None:
    """Its jobs would inherit where to meet, and wait for each other for ever."""
    done = here("sweep", "a5", "--scale", "smoke", "--out", str(tmp_path), **FIRST_OF_TWO)
    assert done.returncode == 2
    assert "start it without torchrun" in refusal(done)
    assert not list(tmp_path.iterdir())


def test_a_rank_without_others_is_no_follower() -> None:
    """Pods set these for one process too; only in a run is the second of two silent."""
    assert "A5" in here("report", "a5", "--committed", RANK="1", WORLD_SIZE="2").stdout
