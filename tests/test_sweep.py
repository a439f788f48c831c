"""Sweeps: every cell once, whatever is killed, whoever else is at it, wherever it runs."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import real_runs
from real_runs import ended, here

from nextlat_bench.cli.measuring import cells, grid
from nextlat_bench.console import console
from nextlat_bench.job import Asked, How, Tick
from nextlat_bench.presets import a5
from nextlat_bench.report.records import collect_tried
from nextlat_bench.run_dir import InUseError, RunDir
from nextlat_bench.sweep import Local, Sweep

SWEEP = ["sweep", "a5", "--scale", "smoke", "--objective", "gpt,nextlat"]
SMALL = ["--seeds", "1", "--set", "training.steps=20"]
Contents = dict[str, bytes]


def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    often = {"NEXTLAT_BENCH_CHECKPOINT_SECONDS": "0.1"}
    return real_runs.begin(list(arguments), stdout=subprocess.PIPE, **often | environment)


def sweep(out: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a sweep into `out`."""
    done = here(*SWEEP, *arguments, "--out", str(out), **environment)
    return done.returncode, done.stdout, done.stderr


def results(out: Path) -> Contents:
    """What counts of every run and of the oracle."""
    paths = [*out.glob("*/records.jsonl"), *out.glob("*/model.safetensors"), *out.glob("*/DONE")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "runs"
    code, printed, errors = sweep(out, *SMALL)
    assert code == 0, errors
    assert "2 cells: 2 done" in printed
    assert printed.index("2 runs to train: ") < printed.index("running")  # the price comes first
    assert f"nextlat-bench report a5 --records {out}" in printed
    return out


def killed_at_random(out: Path, arguments: list[str], kills: int, longest: float) -> None:
    """The same command, killed `kills` times, then left alone: it must finish."""
    rng = random.Random(kills)
    for _ in range(kills):
        process = begin(*SWEEP, *arguments, "--out", str(out))
        time.sleep(rng.uniform(2.0, longest))
        process.kill()
        ended(process)
    code, printed, errors = sweep(out, *arguments)
    assert code == 0, printed + errors


def test_killed_twice_and_begun_again(undisturbed: Path, tmp_path: Path) -> None:
    killed_at_random(tmp_path, SMALL, kills=2, longest=6.0)
    assert results(tmp_path) == results(undisturbed)
    assert len(list(tmp_path.glob("*/DONE"))) == 2


@pytest.mark.slow
def test_twelve_cells_killed_five_times(tmp_path: Path) -> None:
    cells = ["--objective", "gpt,mtp,jtp,nextlat", "--seeds", "3"]
    assert sweep(tmp_path / "whole", *cells)[0] == 0
    killed_at_random(tmp_path / "killed", cells, kills=5, longest=25.0)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert len(list((tmp_path / "killed").glob("*/DONE"))) == 12


def test_what_is_finished_is_skipped(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/*")}
    code, printed, _ = sweep(undisturbed, *SMALL)
    assert code == 0
    assert "running" not in printed
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/*")} == before


def test_records_that_are_gone_are_measured_again(undisturbed: Path, tmp_path: Path) -> None:
    """A finished cell without its records is not finished, whatever DONE says."""
    copy = tmp_path / "runs"
    shutil.copytree(undisturbed, copy)
    [first, *_] = sorted(copy.glob("*/records.jsonl"))
    before = first.read_bytes()
    first.unlink()
    assert sweep(copy, *SMALL)[0] == 0
    assert first.read_bytes() == before


def test_one_probe_on_validation_data(undisturbed: Path, tmp_path: Path) -> None:
    """For choosing settings: nothing of the test split, and nothing finished by it."""
    chosen = ["--objective", "gpt", "--seeds", "1", "--set", "training.steps=5,10"]
    asked = ["--split", "validation", "--probes", "teacher_forced"]
    code, printed, errors = sweep(tmp_path, *chosen, *asked)
    assert code == 0, errors
    assert f"nextlat-bench report choices --records {tmp_path}" in printed
    assert {Path(name).name for name in results(tmp_path)} == {"model.safetensors"}
    tried = collect_tried(tmp_path)
    assert {record.probe for record in tried} == {"teacher_forced"}
    assert {r.run for r in tried} == {path.name for path in tmp_path.glob("*/")}
    assert sorted({r.step for r in tried}) == [0, 5, 10]  # the oracle's, too
    # a finished run is asked further
    assert sweep(undisturbed, *SMALL, *asked)[0] == 0
    assert len(list(undisturbed.glob("*/validation.jsonl"))) == 3


def test_two_sweeps_share_the_cells(undisturbed: Path, tmp_path: Path) -> None:
    both = [begin(*SWEEP, *SMALL, "--jobs", "1", "--out", str(tmp_path)) for _ in range(2)]
    outputs = [ended(process, 300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("2 cells: 2 done" in printed for printed in outputs)
    assert results(tmp_path) == results(undisturbed)
    # each training wrote its first row once, and no row twice
    for folder in tmp_path.glob("a5-[gn]*"):
        assert [row["step"] for row in RunDir(folder).metric_rows()] == [10, 20]


def test_a_cell_that_another_process_has_is_waited_for(tmp_path: Path) -> None:
    arguments = ["--objective", "gpt", "--seeds", "1", "--set", "training.steps=6"]
    assert sweep(tmp_path, *arguments)[0] == 0
    [folder] = (RunDir(path) for path in tmp_path.glob("a5-gpt-*"))
    folder.done.unlink()
    with folder.lock():
        process = begin(*SWEEP, *arguments, "--out", str(tmp_path))
        assert process.stdout is not None
        assert process.stdout.readline().startswith("1 run to train: ")
        assert process.stdout.readline().rstrip().endswith("elsewhere")
    _, errors = ended(process, 60)
    assert process.returncode == 0, errors
    assert folder.is_done


def test_a_failed_cell_is_named_and_the_others_are_finished(tmp_path: Path) -> None:
    rates = "training.learning_rate=0.001,1e30"
    adamw = ["--set", "training.optimizer=adamw", "--set", "training.steps=20"]
    arguments = ["--objective", "gpt", "--seeds", "1", "--set", rates, *adamw]
    code, printed, errors = sweep(tmp_path, *arguments)
    assert code == 1
    assert "2 cells: 1 done, 1 failed" in printed or "2 cells: 1 failed, 1 done" in printed
    [line] = errors.splitlines()
    assert line.startswith("a5-gpt-smoke-s0-")
    assert "the loss became" in line
    assert "Traceback" not in printed
    assert len(list(tmp_path.glob("*/DONE"))) == 1


def jobs_of(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def begun(out: Path, *arguments: str) -> subprocess.Popen[str]:
    """A sweep whose jobs are training."""
    process = begin(*SWEEP, *arguments, "--out", str(out))
    deadline = time.monotonic() + 100
    while not list(out.glob("*/checkpoints/0*/manifest.json")):
        assert time.monotonic() < deadline, "no training began"
        time.sleep(0.05)
    return process


LONG = ["--objective", "gpt", "--seeds", "1", "--set", "training.steps=100000"]


def test_a_killed_job_is_named(tmp_path: Path) -> None:
    process = begun(tmp_path, *LONG)
    [job] = jobs_of(process)
    os.kill(job, signal.SIGKILL)
    _, errors = ended(process, 60)
    assert process.returncode == 1
    assert errors.strip().endswith("killed by SIGKILL")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_no_job_outlives_its_sweep(sent: signal.Signals, tmp_path: Path) -> None:
    process = begun(tmp_path, *LONG)
    process.send_signal(sent)
    _, errors = ended(process, 60)
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on" in errors
        assert "Traceback" not in errors
    [folder] = (RunDir(path) for path in tmp_path.glob("a5-gpt-*"))
    deadline = time.monotonic() + 30
    while True:
        try:
            with folder.lock():
                break
        except InUseError:
            assert time.monotonic() < deadline, "a job goes on without its sweep"
            time.sleep(0.1)


def test_jobs_share_the_gpus_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, what can be seen is which one a job is told to use."""
    told: list[str] = []
    real = subprocess.Popen
    tick = json.dumps({"what": "training", "done": 0, "total": 1, "note": ""})

    def popen(command: list[str], **options: Any) -> Any:
        """What is begun says that it began, and sleeps."""
        told.append(options["env"]["CUDA_VISIBLE_DEVICES"])
        return real(["sh", "-c", f"echo '{tick}'; exec sleep 100"], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    folder = RunDir.prepare(tmp_path, a5.run("gpt", "smoke", 0))

    def order(jobs: int) -> list[str]:
        """GPUs of the first jobs, and of those that follow one of the first by turns."""
        told.clear()
        engine = Local(How("cpu", threads=1), Asked(), ["2", "5"], jobs)
        running = [engine.finish(folder) for _ in range(jobs)]
        for job in running:
            next(job)
        for _ in range(2):  # the second goes on, another takes the place of the first
            running[0].close()
            running[0] = engine.finish(folder)
            next(running[0])
        for job in running:
            job.close()
        return list(told)

    assert order(1) == ["2", "2", "2"]
    assert order(2) == ["2", "5", "2", "2"]
    assert order(3) == ["2", "5", "2", "2", "2"]


def test_jobs_on_gpus_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their probes would leave all but one idle."""
    told: list[How] = []

    def refused(how: How, *arguments: object) -> None:
        told.append(how)
        raise ValueError("seen")

    monkeypatch.setattr("nextlat_bench.sweep.Local", refused)
    monkeypatch.setattr("nextlat_bench.sweep.cores", lambda: 9)
    for device, threads in (("cuda", 4), ("cpu", 1)):
        monkeypatch.setattr("nextlat_bench.device.chosen_device", lambda asked, its=device: its)
        monkeypatch.setattr("nextlat_bench.sweep.visible_gpus", lambda: ["0", "1"])
        assert here(*SWEEP, *SMALL, "--out", str(tmp_path)).returncode == 2
        assert told.pop().threads == threads


def test_ctrl_c_while_jobs_are_handed_out_stops_those_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Engine(Local):
        told = Event()

        def finish(self, folder: RunDir) -> Iterator[Tick]:
            yield Tick("training", 0, 1, "")
            self.told.wait(20)

        def stop(self) -> None:
            self.told.set()

    hand_out = ThreadPoolExecutor.submit
    begun: list[object] = []

    def submit(pool: ThreadPoolExecutor, work: Any) -> Any:
        if begun:
            raise KeyboardInterrupt
        begun.append(work)
        return hand_out(pool, work)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    runs, engine = [a5.run("gpt", "smoke", seed) for seed in range(2)], Engine(How(), Asked())
    with pytest.raises(KeyboardInterrupt):
        Sweep(runs, tmp_path, engine, jobs=2).run(console())
    assert engine.told.is_set()


def test_what_is_left_is_judged_by_what_was_run(tmp_path: Path) -> None:
    """Two cells took 10 s and 20 s; one has run for 5 s, three wait; two at a time."""
    runs = [a5.run("gpt", "smoke", seed) for seed in range(6)]
    work = Sweep(runs, tmp_path, Local(How(), Asked()), jobs=2)
    assert work.seconds_left() == 0
    assert "left" not in work.summary()
    now = time.monotonic()
    for cell, seconds in zip(work.cells, (10, 20), strict=False):
        cell.state, cell.begun, cell.ended = "done", now - 100, now - 100 + seconds
    work.cells[2].state, work.cells[2].begun = "running", now - 5
    assert work.seconds_left() == pytest.approx((15 - 5 + 3 * 15) / 2, abs=0.5)
    assert "about 0:2" in work.summary()


def test_a_job_that_left_in_silence_has_failed(tmp_path: Path) -> None:
    class Silent(Local):
        def finish(self, folder: RunDir) -> Iterator[Tick]:
            yield Tick("training", 0, 1, "")

    work = Sweep([a5.run("gpt", "smoke", 0)], tmp_path, Silent(How(), Asked()), jobs=1)
    assert not work.run(console())
    assert [(cell.state, cell.why) for cell in work.cells] == [
        ("failed", "its process ended before all was measured, without a word")
    ]


def test_the_grid() -> None:
    made = list(grid(["gpt", "nextlat"], ["objective.horizon=1,4", "training.steps=5"]))
    assert made == [
        ("gpt", ("training.steps=5",)),
        ("nextlat", ("objective.horizon=1", "training.steps=5")),
        ("nextlat", ("objective.horizon=4", "training.steps=5")),
    ]
    with pytest.raises(ValueError, match="no field of gpt and nextlat named 'horizn'; did you"):
        list(grid(["gpt", "nextlat"], ["objective.horizn=1,2"]))
    with pytest.raises(ValueError, match=r"--set training\.steps is there twice: write"):
        list(grid(["gpt"], ["training.steps=5", "training.steps=6"]))


def test_lists_may_have_blanks_but_no_gaps() -> None:
    assert len(cells("path_star", "gpt, nextlat", "smoke", 1, graph="2x5, 2x3")) == 4
    with pytest.raises(ValueError, match="graph = '': expected DEGREExLENGTH"):
        cells("path_star", "gpt", "smoke", 1, graph="2x5,")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """The address of a real Ray cluster of two nodes with a core each."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    memory = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=memory)
    cluster.add_node(**memory)
    yield cluster.address
    cluster.shutdown()


def test_a_ray_cluster_gives_the_same_records(
    two_nodes: str, undisturbed: Path, tmp_path: Path
) -> None:
    ray = ["--engine", "ray", "--out", str(tmp_path)]
    process = begin(*SWEEP, *SMALL, *ray, RAY_ADDRESS=two_nodes)  # a process of the cluster's own
    printed, errors = ended(process, 500)
    assert process.returncode == 0, errors
    # two cores, one a node: two at once are on two nodes
    assert [line.split()[-1] for line in printed.splitlines()[1:3]] == ["running", "running"]
    assert results(tmp_path) == results(undisturbed)


@pytest.mark.slow
def test_a_sweep_on_ray_is_killed_and_goes_on_here(
    two_nodes: str, undisturbed: Path, tmp_path: Path
) -> None:
    """What came back from the nodes is enough to go on from."""
    process = begin(
        *SWEEP, *SMALL, "--out", str(tmp_path), "--engine", "ray", RAY_ADDRESS=two_nodes
    )
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("*/DONE")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    ended(process)
    code, _, errors = sweep(tmp_path, *SMALL)
    assert code == 0, errors
    assert results(tmp_path) == results(undisturbed)
