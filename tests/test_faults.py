"""Faults done for real: one clear line, the last good state kept, and the same bytes in the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from real_runs import begin, call, ended, outcome, recipe, run_dir, wait_for

from nextlat_bench.cli import end

EVERY_STEP = {"NEXTLAT_BENCH_CHECKPOINT_SECONDS": "0"}
STEPS = "training.steps=40"

Note = Callable[[str, str], None]


@pytest.fixture(scope="module")
def note(tables: dict[str, list[tuple[object, ...]]]) -> Note:
    rows = tables.setdefault("faults", [("fault", "what was seen")])

    def write(fault: str, said: str) -> None:
        line = said.strip().partition("\n")[0] or "nothing: it goes on"
        rows.append((fault, f"{line[:100]} | repaired: the same bytes"))

    return write


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert call(recipe("path_star", out, STEPS)) == 0
    return outcome(out)


@pytest.fixture(scope="module")
def half_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed with two checkpoints and some logged rows."""
    out = tmp_path_factory.mktemp("half")
    process = begin(recipe("path_star", out, STEPS), **EVERY_STEP)
    wait_for(lambda: list(out.glob("*/checkpoints/00000012")), process)
    process.kill()
    ended(process)
    assert not list(out.glob("*/trained.json"))
    return out


class Damaged:
    """A copy of a run with a fault in it, and the command that meets it."""

    def __init__(self, source: Path, out: Path) -> None:
        shutil.copytree(source, out)
        self.out, self.folder = out, run_dir(out)
        self.command = recipe("path_star", out, STEPS)

    @property
    def newest(self) -> Path:
        return max((self.folder / "checkpoints").glob("0*"))

    def files(self) -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in self.out.rglob("*") if p.is_file()}


@pytest.fixture
def half(half_trained: Path, tmp_path: Path) -> Damaged:
    return Damaged(half_trained, tmp_path / "half")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def cut_last_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().rstrip(b"\n")[:-20])


def check_line(said: str, *parts: str) -> None:
    assert said.startswith("nextlat-bench: "), said
    assert said.count("\n") == 1, said
    for part in parts:
        assert part in said


def beyond_the_end(path: Path) -> None:
    """Believed, it would make half-trained weights the run's."""
    edit(path, step=10**9)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *product(["state.pt", "model.safetensors", "manifest.json"], [cut, flip]),
        ("manifest.json", beyond_the_end),
    ],
)
def test_a_damaged_checkpoint(
    name: str,
    damage: Callable[[Path], None],
    half: Damaged,
    undisturbed: dict[str, bytes],
    note: Note,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(half.newest / name)
    before = half.files()
    assert call(half.command) == 2
    said = capsys.readouterr().err
    check_line(said, "restore it, or delete it alone to go on from step")
    assert half.files() == before
    shutil.rmtree(half.newest)  # as the line says
    assert call(half.command) == 0
    assert outcome(half.out) == undisturbed
    note(f"{name} of a checkpoint: {damage.__name__}", said.replace(str(half.out) + "/", ""))


def test_a_checkpoint_of_a_newer_version_and_of_an_older_one(
    half: Damaged, undisturbed: dict[str, bytes], note: Note, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = half.newest / "manifest.json"
    assert json.loads(manifest.read_text())["schema"] == 1
    edit(manifest, schema=2)
    before = half.files()
    assert call(half.command) == 2
    said = capsys.readouterr().err
    check_line(said, "has schema 2, this version reads 1")
    assert half.files() == before
    value = json.loads(manifest.read_text())
    del value["schema"]  # as the first versions wrote it
    manifest.write_text(json.dumps(value))
    assert call(half.command) == 0
    assert outcome(half.out) == undisturbed
    note("checkpoint of a newer version", said.replace(str(half.out) + "/", ""))


def test_a_run_of_a_newer_version(
    half: Damaged, undisturbed: dict[str, bytes], note: Note, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = half.folder / "run.json"
    content = run_json.read_bytes()
    edit(run_json, schema=2)
    before = half.files()
    for verb in (half.command, ["probe", str(half.folder)], ["show", str(half.folder)]):
        assert call(verb) == 2
        said = capsys.readouterr().err
        check_line(said, "schema 2, this version reads 1")
    assert {p for p in half.files() if p.name != ".lock"} == {
        p for p in before if p.name != ".lock"
    }
    run_json.write_bytes(content)
    assert call(half.command) == 0
    assert outcome(half.out) == undisturbed
    note("run.json of a newer version", said.replace(str(half.out) + "/", ""))


def test_a_damaged_last_line_of_the_log(
    half: Damaged, undisturbed: dict[str, bytes], note: Note, capsys: pytest.CaptureFixture[str]
) -> None:
    log = half.folder / "metrics.jsonl"
    for rest in (b'{"step": 13, "lo', b"\xff\xfe\0\n", b"[1]\n", b"[" * 10**5 + b"\n"):
        log.write_bytes(log.read_bytes() + rest)
    assert call(half.command) == 0
    assert outcome(half.out) == undisturbed
    assert [json.loads(line)["step"] for line in log.open()] == [10, 20, 30, 40]
    note("damaged last line of metrics.jsonl", capsys.readouterr().err)


def test_a_damaged_last_line_of_the_records(
    undisturbed: dict[str, bytes], half: Damaged, note: Note, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(half.command) == 0
    records = half.folder / "records.jsonl"
    cut_last_line(records)
    before = half.files()
    capsys.readouterr()
    assert call(half.command) == 2
    said = capsys.readouterr().err
    check_line(said, "records.jsonl, line ", "delete that run's records.jsonl")
    assert half.files() == before
    records.unlink()  # as the line says
    assert call(half.command) == 0
    assert outcome(half.out) == undisturbed
    note("damaged last line of records.jsonl", said.replace(str(half.out) + "/", ""))


def test_two_processes_in_one_folder(
    undisturbed: dict[str, bytes], half: Damaged, note: Note, capsys: pytest.CaptureFixture[str]
) -> None:
    first = begin(half.command, **EVERY_STEP)
    log = half.folder / "metrics.jsonl"
    before = log.stat().st_mtime_ns
    wait_for(lambda: log.stat().st_mtime_ns != before, first)
    first.send_signal(signal.SIGSTOP)
    assert call(half.command) == 2
    said = capsys.readouterr().err
    check_line(said, "is in use by another process")
    first.send_signal(signal.SIGCONT)
    ended(first)
    assert first.returncode == 0
    assert outcome(half.out) == undisturbed
    note("two processes in one run folder", said.replace(str(half.out) + "/", ""))


@pytest.mark.parametrize(
    ("name", "number", "sign"),
    [
        ("SIGINT in training", signal.SIGINT, "*/checkpoints/0000001?"),
        ("SIGTERM in training", signal.SIGTERM, "*/checkpoints/0000001?"),
        ("SIGINT in probing", signal.SIGINT, "*-oracle-*/records.jsonl"),
    ],
)
def test_a_stop(
    name: str, number: int, sign: str, undisturbed: dict[str, bytes], note: Note, tmp_path: Path
) -> None:
    command = recipe("path_star", tmp_path, STEPS)
    process = begin(command, **EVERY_STEP)
    wait_for(lambda: list(tmp_path.glob(sign)), process)
    process.send_signal(number)
    _, said = ended(process)
    assert process.returncode == 128 + number
    assert said.strip() == "stopped; the same command goes on from the last checkpoint"
    assert not list(tmp_path.glob("*/DONE"))
    assert call(command) == 0
    assert outcome(tmp_path) == undisturbed
    note(name, said)


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("sweep", "stopped; the same command goes on from the last checkpoint"),
        ("probe", "stopped; the same command goes on with the probe that it was at"),
        ("report", "stopped"),
    ],
)
def test_only_what_keeps_something_says_that_it_goes_on(
    verb: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nextlat-bench", verb, "taxi"])
    monkeypatch.setattr(signal, "signal", lambda *handler: None)  # this process keeps its own
    with pytest.raises(SystemExit) as stopped:
        end(signal.SIGTERM)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err.strip() == said


def test_stopped_twice_at_once(tmp_path: Path) -> None:
    process = begin(recipe("path_star", tmp_path, STEPS), **EVERY_STEP)
    wait_for(lambda: list(tmp_path.glob("*/checkpoints/0000001?")), process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, said = ended(process)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM)
    assert said.strip() == "stopped; the same command goes on from the last checkpoint"


CLOCK = """
import random, sys, time
real, year = time.time, 366 * 86_400
time.time = lambda: real() + random.choice((-year, 0, year))
sys.argv = ["nextlat-bench", *sys.argv[1:]]
from nextlat_bench.cli import main
main()
"""


def test_a_clock_that_jumps_by_a_year(
    undisturbed: dict[str, bytes], note: Note, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", CLOCK, *recipe("path_star", tmp_path, STEPS)]
    done = subprocess.run(command, env=os.environ | EVERY_STEP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path) == undisturbed
    facts = json.loads((run_dir(tmp_path) / "trained.json").read_text())
    assert 0 <= facts["seconds_since_start_or_resume"] < 600
    note("a clock that jumps by a year", done.stderr)


def test_a_file_that_may_not_grow(
    undisturbed: dict[str, bytes], note: Note, tmp_path: Path
) -> None:
    """As a quota does it, and where nothing can be mounted: files of 50 kB at most."""
    command = recipe("path_star", tmp_path, STEPS)
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, "-m", "nextlat_bench"]
    # measured coverage is written to files that may not grow either
    own = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([*limited, *command], capture_output=True, text=True, env=own)
    assert done.returncode == 2
    check_line(done.stderr, "File too large; make room, and the same command goes on")
    assert call(command) == 0
    assert outcome(tmp_path) == undisturbed
    note("a file that may not grow", done.stderr.replace(str(tmp_path) + "/", ""))


# -- file systems of our own ----------------------------------------------------------------


def mounting() -> list[str] | None:
    """What runs a script that may mount; None where nobody may."""
    for unshare in (["unshare", "-rm"], ["unshare", "-m"]):
        try:
            probe = subprocess.run(
                [*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
            )
        except OSError:
            return None
        if probe.returncode == 0:
            return unshare
    return None


def in_mounts(script: str, out: Path, size: str) -> subprocess.CompletedProcess[str]:
    """A shell script with a tmpfs at $OUT, kept in $KEEP when it is over; `nextlat` is `run`."""
    unshare = mounting()
    if unshare is None:
        pytest.skip("no file system may be mounted here, by root or in a namespace")
    keep, disk = out / "keep", out / "disk"
    keep.mkdir()
    disk.mkdir()
    command = [sys.executable, "-m", "nextlat_bench", *recipe("path_star", disk, STEPS)]
    head = f'mount -t tmpfs -o size={size} none "$OUT"\nnextlat() {{ "$@" >/dev/null; }}\n'
    return subprocess.run(
        [*unshare, "sh", "-c", head + textwrap.dedent(script), "sh", *command],
        env=os.environ | EVERY_STEP | {"OUT": str(disk), "KEEP": str(keep)},
        capture_output=True,
        text=True,
    )


def test_a_full_disk(undisturbed: dict[str, bytes], note: Note, tmp_path: Path) -> None:
    script = """
        nextlat "$@"; echo "exit $?"
        ls "$OUT"/*/checkpoints
        mount -o remount,size=50m "$OUT"
        nextlat "$@"; echo "exit $?"
        cp -r "$OUT"/. "$KEEP"
    """
    done = in_mounts(script, tmp_path, size="400k")
    check_line(done.stderr, "No space left on device; make room, and the same command goes on")
    exits = [line for line in done.stdout.splitlines() if line.startswith("exit")]
    assert exits == ["exit 2", "exit 0"], done.stderr
    assert "00000000" in done.stdout, "the last good checkpoint is kept"
    assert outcome(tmp_path / "keep") == undisturbed
    note("a full disk", done.stderr.replace(str(tmp_path) + "/", ""))


def test_a_read_only_folder(
    half: Damaged, undisturbed: dict[str, bytes], note: Note, tmp_path: Path
) -> None:
    script = f"""
        cp -r {half.out}/. "$OUT"
        mount -o remount,ro "$OUT"
        nextlat "$@"; echo "exit $?"
        mount -o remount,rw "$OUT"
        nextlat "$@"; echo "exit $?"
        cp -r "$OUT"/. "$KEEP"
    """
    done = in_mounts(script, tmp_path, size="50m")
    check_line(done.stderr, "Read-only file system")
    assert done.stdout.split() == ["exit", "2", "exit", "0"], done.stderr
    assert outcome(tmp_path / "keep") == undisturbed
    note("a read-only folder", done.stderr.replace(str(tmp_path) + "/", ""))


def test_a_finished_run_on_a_read_only_disk_is_shown(tmp_path: Path) -> None:
    script = """
        nextlat "$@"; echo "exit $?"
        mount -o remount,ro "$OUT"
        nextlat "$@"; echo "exit $?"
    """
    done = in_mounts(script, tmp_path, size="50m")
    assert done.stdout.split() == ["exit", "0", "exit", "0"], done.stderr
