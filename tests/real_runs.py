"""The real command, in this process or in one of its own that can be killed; what it leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from nextlat_bench.cli import main

__all__ = [
    "PATIENCE",
    "added",
    "begin",
    "call",
    "ended",
    "here",
    "outcome",
    "recipe",
    "run_dir",
    "wait_for",
]

PATIENCE = 120.0  # seconds


def recipe(task: str, out: Path, *settings: str, objective: str = "nextlat") -> list[str]:
    """`run` with a tiny model; one thread, so that bytes can be compared anywhere."""
    sizes = ("training.examples=16", "decoder.layers=1", "decoder.width=32", *settings)
    sets = [x for setting in sizes for x in ("--set", setting)]
    options = ["--scale", "smoke", "--threads", "1", "--objective", objective]
    return ["run", task, *options, *sets, "--out", str(out)]


def call(arguments: list[str]) -> int:
    """The command in this process; its exit code."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["nextlat-bench", *arguments])
            patch.setenv("OMP_NUM_THREADS", "1")  # whatever --threads makes of it ends here
            with pytest.raises(SystemExit) as stopped:
                main()
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    return int(stopped.value.code or 0)


def here(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command in this process, and what one of its own would have given."""
    out, errors = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        for name, value in ({"TERM": "dumb", "COLUMNS": "110"} | environment).items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        code = call(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


@contextmanager
def added(site: Path) -> Iterator[None]:
    """Its packages are installed for this process, which afterwards forgets what it found there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # it tells no two edits of a second apart
        patch.syspath_prepend(str(site))
        yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(site)):
            del sys.modules[name]


def begin(
    arguments: list[str],
    *,
    cwd: Path | None = None,
    stdout: int = subprocess.DEVNULL,
    **environment: str,
) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "nextlat_bench", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], patience: float = PATIENCE) -> tuple[str, str]:
    """Its standard output and error once it is over. One that hangs is asked where, and killed."""
    try:
        return process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # Python's faulthandler prints where each thread is
        _, errors = process.communicate(timeout=patience)
        pytest.fail(f"still not over after {patience:.0f} s:\n{errors}")


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until it is true; an AssertionError where the process ends first."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, "over before that"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run_dir(out: Path, objective: str = "nextlat") -> Path:
    (folder,) = out.glob(f"*-{objective}-smoke-s0-*")
    return folder


def outcome(out: Path, objective: str = "nextlat") -> dict[str, bytes]:
    """What must be equal, byte for byte, of the run and of its reference; and nothing is left."""
    folder = run_dir(out, objective)
    (oracle,) = out.glob("*-oracle-smoke-*")
    drawn = {path.name for path in folder.glob("map_reconstruction.json")}  # taxi's
    names = {path.name for path in folder.iterdir()} - drawn
    finished = {"run.json", "provenance.json", "metrics.jsonl", "model.safetensors", "trained.json"}
    assert names == finished | {"records.jsonl", "DONE", ".lock"}
    files = [folder / "run.json", folder / "model.safetensors", folder / "records.jsonl"]
    files += [oracle / "records.jsonl", *(folder / name for name in drawn)]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}
