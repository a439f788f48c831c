"""The command line: what it prints, how it refuses, and that it stays as small as it is."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from real_runs import begin, ended, here

from nextlat_bench.report.records import distinct, read
from nextlat_bench.train import seconds_between_checkpoints

SMALL = [
    x
    for setting in ("training.steps=6", "training.examples=16", "decoder.width=32")
    for x in ("--set", setting)
]
LONG = ["--set", "training.steps=100000"]  # not over before it is interrupted


def call(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nextlat_bench", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"TERM": "dumb", "COLUMNS": "110"} | environment,
        timeout=300,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small finished run in runs/, made by the real command."""
    folder = tmp_path_factory.mktemp("cli")
    done = call("run", "taxi", "--scale", "smoke", *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def run_dir(folder: Path) -> Path:
    return next((folder / "runs").glob("taxi-nextlat-smoke-*"))


def test_run_leaves_a_complete_folder(runs: Path) -> None:
    names = {path.name for path in run_dir(runs).iterdir()}
    expected = {"run.json", "provenance.json", "metrics.jsonl", "model.safetensors"}
    assert expected | {"trained.json", "records.jsonl", "DONE"} <= names
    assert not [name for name in names if name.endswith(".tmp")]
    rows = [json.loads(line) for line in (run_dir(runs) / "records.jsonl").open()]
    assert {row["probe"] for row in rows} == {
        "next_token",
        "trajectories",
        "compression",
        "distinction",
        "detours",
        "rank",
        "spectrum",
        "state_probe",
        "transition",
        "map_reconstruction",
    }
    assert all(row["n"] > 0 or row["n_skipped"] > 0 for row in rows)


@pytest.mark.parametrize("task", ["path_star", "countdown", "a5"])
def test_the_other_worlds_run_and_report(task: str, tmp_path: Path) -> None:
    for objective in ("nextlat", "gru"):
        arguments = ["run", task, "--scale", "smoke", "--objective", objective, *SMALL]
        done = here(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    table = here("report", task, cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "GRU" in table.stdout
    figures = here("report", task, "--figures", "drawn", cwd=tmp_path)
    assert figures.returncode == 0, figures.stderr
    assert (tmp_path / "drawn" / f"{task}.png").read_bytes().startswith(b"\x89PNG")
    run = next((tmp_path / "runs").glob(f"{task}-nextlat-*"))
    refused = here("show", str(run), "--map", str(tmp_path / "map.png"))
    assert refused.returncode == 2
    assert f"{task} has no street map" in refused.stderr


@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("path_star", r"(\d+,\d+\|?){8}/\d+,\d+=\d+(,\d+){4}"),
        ("countdown", r"\d+,\d+,\d+ -> \d+: \d+[-+*/]\d+=\d+, \d+[-+*/]\d+=\d+"),
        ("a5", r"((\S+ \* )+\S+ = \S+(; |$))+"),
    ],
)
def test_samples_are_readable(task: str, pattern: str) -> None:
    done = here("sample", task, "-n", "4")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert all(re.fullmatch(pattern, line) for line in done.stdout.splitlines()), done.stdout


def test_a_finished_run_is_shown_again_at_once(runs: Path) -> None:
    records = (run_dir(runs) / "records.jsonl").read_bytes()
    again = call("run", "taxi", "--scale", "smoke", *SMALL, cwd=runs)
    assert again.returncode == 0
    assert "training 6/6" not in again.stdout
    assert "next token" in again.stdout
    assert (run_dir(runs) / "records.jsonl").read_bytes() == records


def test_measuring_again_gives_the_same_bytes(runs: Path) -> None:
    records = run_dir(runs) / "records.jsonl"
    before = records.read_bytes()
    records.unlink()
    assert here("probe", str(run_dir(runs)), cwd=runs).returncode == 0
    assert records.read_bytes() == before


def test_settings_are_chosen_without_the_test_split(runs: Path) -> None:
    """--split validation trains and probes; its records reach no table, and test's come after."""
    command = ["run", "path_star", "--scale", "smoke", *SMALL, "--out", "chosen"]
    done = here(*command, "--split", "validation", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "validation split" in done.stdout
    [folder] = (runs / "chosen").glob("path_star-nextlat-*")
    assert (folder / "validation.jsonl").exists()
    assert not (folder / "records.jsonl").exists()
    assert not (folder / "DONE").exists()
    assert "smoke" not in here("report", "path_star", "--records", "chosen", cwd=runs).stdout
    done = here(*command, cwd=runs)
    assert "validation split" not in done.stdout
    assert (folder / "DONE").exists()
    seen, unseen = ((folder / f"{n}.jsonl").read_bytes() for n in ("validation", "records"))
    assert seen != unseen
    refused = here(*command, "--split", "tests", cwd=runs)
    assert refused.returncode == 2
    assert "did you mean 'test'" in refused.stderr


def test_only_some_probes_are_asked(runs: Path) -> None:
    """A finished run has all of its preset's: the same command without --probes asks the rest."""
    command = ["run", "taxi", "--scale", "smoke", *SMALL, "--out", "few"]
    assert here(*command, "--probes", "trajectories,rank", cwd=runs).returncode == 0
    few, whole = runs / "few" / run_dir(runs).name, run_dir(runs)
    assert {r.probe for r in read(few / "records.jsonl")} == {"trajectories", "rank"}
    assert not (few / "DONE").exists()
    assert here(*command, cwd=runs).returncode == 0
    assert (few / "DONE").exists()
    assert distinct(read(few / "records.jsonl")) == distinct(read(whole / "records.jsonl"))


def test_show(runs: Path) -> None:
    shown = call("show", str(run_dir(runs)))
    assert shown.returncode == 0
    for word in ("task", "objective", "nextlat", "made on", "trained", "done"):
        assert word in shown.stdout


def test_show_draws_the_map(runs: Path, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    shown = here("show", str(run_dir(runs)), "--map", str(picture))
    assert shown.returncode == 0, shown.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_report(runs: Path) -> None:
    terminal = here("report", "taxi", cwd=runs)
    assert terminal.returncode == 0
    for word in ("NextLat", "True world model", "98.7", "from runs"):
        assert word in terminal.stdout
    table = here("report", "taxi", "--format", "csv", "--records", str(runs / "runs"))
    assert len(list(csv.reader(io.StringIO(table.stdout)))) > 5
    assert r"\toprule" in here("report", "taxi", "--format", "tex", cwd=runs).stdout
    assert "|" in here("report", "taxi", "--format", "md", cwd=runs).stdout


def test_probe_of_a_known_subject(runs: Path) -> None:
    done = here("probe", "always_end", "--scale", "smoke", cwd=runs)
    assert done.returncode == 0, done.stderr


def test_sample(tmp_path: Path) -> None:
    done = call("sample", "taxi", "-n", "5")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(" -> " in line and line.endswith("end") for line in lines)
    for name in ("a.npz", "a.jsonl"):
        out = tmp_path / name
        assert here("sample", "taxi", "-n", "3", "--out", str(out)).returncode == 0
    assert np.load(tmp_path / "a.npz")["tokens"].shape[0] == 3
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").open()]
    assert [row["text"] for row in rows] == lines[:3]
    assert [len(row["targets"]) for row in rows] == [len(row["tokens"]) for row in rows]


def test_another_text_is_read_with_its_own_digest(tmp_path: Path) -> None:
    """README's task.source=FOLDER: the digest of Python's text does not stay behind."""
    for k in range(30):
        (tmp_path / f"{k}.txt").write_text(f"page {k} of a book of many pages\n" * 40)
    given = ["--scale", "smoke", "--set", f"task.source={tmp_path}"]
    done = here("sample", "language", "-n", "1", *given)
    assert (done.returncode, done.stderr) == (0, "")
    assert "of a book" in done.stdout


def test_what_was_drawn_is_what_is_said(tmp_path: Path) -> None:
    """A split may hold fewer than are asked for."""
    out = tmp_path / "few.jsonl"
    given = ["--scale", "smoke", "--split", "test", "-n", "100000", "--out", str(out)]
    done = here("sample", "language", *given)
    assert int(done.stdout.split()[0]) == len(out.read_text().splitlines()) < 100_000


def test_threads_are_recorded_as_asked_for(tmp_path: Path) -> None:
    given = ["--set", "training.steps=2", "--threads", "1", "--out", str(tmp_path)]
    assert call("run", "path_star", "--scale", "smoke", *given, OMP_NUM_THREADS="2").returncode == 0
    [made] = tmp_path.glob("path_star-nextlat-*/provenance.json")
    assert json.loads(made.read_text())["threads"] == 1


def test_a_run_takes_no_more_threads_than_asked_for_and_no_compiler(tmp_path: Path) -> None:
    """PyTorch's optimizers would import the compiler: a second and more of every start."""
    given = ["--set", "training.steps=2", "--split", "test", "--threads", "1"]
    arguments = ["run", "path_star", "--scale", "smoke", *given, "--out", str(tmp_path)]
    code = (
        "import sys\n"
        "from nextlat_bench.cli import main\n"
        f"sys.argv = {['nextlat-bench', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "from threadpoolctl import threadpool_info\n"
        "print('torch._dynamo' in sys.modules)\n"
        "print(*[library['num_threads'] for library in threadpool_info()])\n"
    )
    own = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=own, check=True
    )
    *_, compiler, threads = done.stdout.splitlines()
    assert compiler == "False"
    assert set(threads.split()) == {"1"}


def test_a_terminal_that_lacks_characters() -> None:
    """A dash is no letter of ASCII; a table with a question mark in its place is still a table."""
    made = call("report", "a5", "--committed", PYTHONIOENCODING="ascii")
    assert (made.returncode, made.stderr) == (0, "")
    assert "?" in made.stdout


@pytest.mark.parametrize("text", ["abc", "nan", "-1", ""])
def test_a_variable_that_is_no_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTLAT_BENCH_CHECKPOINT_SECONDS", text)
    said = f"NEXTLAT_BENCH_CHECKPOINT_SECONDS = {text!r}: expected a number"
    with pytest.raises(ValueError, match=said):
        seconds_between_checkpoints()
    if text == "abc":  # it is read as a run begins
        done = call("run", "a5", "--scale", "smoke")
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_compiling_without_a_compiler_is_refused(tmp_path: Path) -> None:
    """Before anything is begun, so that without --compile the same folder goes on."""
    given = ["path_star", "--scale", "smoke", "--out", str(tmp_path)]
    done = call("run", *given, "--compile", CXX="/nonexistent/g++")
    assert done.returncode == 2
    assert "--compile needs a C++ compiler" in done.stderr
    assert [path.name for path in tmp_path.glob("*/*") if path.name != ".lock"] == ["run.json"]


def test_a_report_names_its_sources(runs: Path) -> None:
    own = ["--records", "runs"]
    choices = here("report", "choices", *own, cwd=runs)
    assert "no records of the validation split" in choices.stdout
    assert "from runs" in choices.stdout
    assert "from the committed grid" in here("report", "choices", "--committed", cwd=runs).stdout
    validity = here("report", "validity", *own, cwd=runs).stdout
    assert "known models are the committed ones" in validity


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m nextlat_bench sample taxi -n 20000 | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_plan() -> None:
    done = here("plan", "path_star", "--scale", "smoke", "--gpu", "h100")
    assert done.returncode == 0, done.stderr
    for word in ("parameters", "FLOPs", "1,216", "as measured", "layers 2", "989 TFLOP/s"):
        assert word in done.stdout


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    import signal

    process = begin(["run", "taxi", "--scale", "smoke", *LONG], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob("runs/*/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = ended(process, 60)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors


def test_help_teaches_and_is_quick() -> None:
    before = os.times()
    done = call("--help")
    seconds = sum(os.times()[2:4]) - sum(before[2:4])  # of its processor
    assert done.returncode == 0
    assert "nextlat-bench run taxi --objective nextlat" in done.stdout
    # 0.3 s, and more where nothing is compiled yet
    assert seconds < 1.5


def test_the_command_line_is_frozen() -> None:
    """A new verb or option is a decision: change this table knowingly."""
    import typer.main

    from nextlat_bench.cli import app

    command = typer.main.get_command(app)
    options = {
        name: sorted(p.opts[0] for p in verb.params if p.opts[0].startswith("-"))
        for name, verb in command.commands.items()  # type: ignore[attr-defined]
    }
    assert options == {
        "run": [
            "--compile",
            "--device",
            "--graph",
            "--objective",
            "--out",
            "--probes",
            "--scale",
            "--seed",
            "--set",
            "--shard",
            "--split",
            "--streets",
            "--threads",
        ],
        "sweep": [
            "--committed",
            "--device",
            "--engine",
            "--graph",
            "--jobs",
            "--objective",
            "--out",
            "--probes",
            "--scale",
            "--seeds",
            "--set",
            "--split",
            "--streets",
        ],
        "probe": [
            "--device",
            "--graph",
            "--model",
            "--out",
            "--scale",
            "--set",
            "--split",
            "--streets",
            "--task",
        ],
        "show": ["--map"],
        "plan": ["--gpu", "--graph", "--objective", "--scale", "--set", "--streets"],
        "sample": [
            "--graph",
            "--out",
            "--scale",
            "--set",
            "--split",
            "--start",
            "--streets",
            "-n",
        ],
        "export": ["--format"],
        "list": [],
        "report": ["--committed", "--figures", "--format", "--out", "--records"],
    }
