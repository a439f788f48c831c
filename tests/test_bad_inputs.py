"""Every bad input of the catalogue: one clear line, exit code 2 or a ValueError, nothing left."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from bad_fields import JSON_DAMAGE, OWNERS, base, wrong_fields
from bad_inputs import COMMANDS, HERE, RUN
from bad_places import PLACES, make
from real_runs import call

from nextlat_bench.presets import path_star
from nextlat_bench.run import Run

SECONDS = 2.0  # for any refusal, 50 MB of junk among them; torch is loaded by then
AT_LEAST = 130

Note = Callable[[str], None]


@pytest.fixture(scope="module")
def counts(tables: dict[str, list[tuple[object, ...]]]) -> Iterator[tuple[Counter, Counter]]:
    cases: Counter[str] = Counter()
    well: Counter[str] = Counter()
    yield cases, well
    rows = [(name, cases[name], well[name]) for name in cases]
    total = ("all", cases.total(), well.total())
    tables["bad inputs"] = [("verb or constructor", "cases", "refused well"), *rows, total]


@contextmanager
def counted(counts: tuple[Counter, Counter], name: str) -> Iterator[None]:
    cases, well = counts
    cases[name] += 1
    yield
    well[name] += 1


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what waits for ever, such as the end of a pipe; fails what is slow."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not refused in {20 * seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 20 * seconds)
    begin = time.process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - begin < seconds


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small finished run, and what is slow to load is loaded."""
    importlib.import_module("osmnx")
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        assert call(["run", *HERE, "--out", str(out)]) == 0
        (folder,) = out.glob("path_star-nextlat-*")
        patch.setenv("FINISHED_RUN", str(folder))
        patch.setenv("NO_COLOR", "1")
        yield folder


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def prepared(arguments: list[str], finished: Path, folder: Path) -> list[str]:
    for argument in arguments:
        if (name := argument.partition("/")[0]) in PLACES:
            make(name, folder)
    return [str(finished) if argument == RUN else argument for argument in arguments]


def check_line(said: str, message: str) -> None:
    assert said.startswith("nextlat-bench: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert message in said
    assert len(said) < 6_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for verb, cases in COMMANDS.items() for name in cases]
)
def test_the_command_line_refuses(
    verb: str,
    name: str,
    finished: Path,
    counts: tuple[Counter, Counter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, message = COMMANDS[verb][name]
    arguments = prepared(arguments, finished, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    with counted(counts, verb):
        with within(SECONDS):
            code = call(arguments)
        assert code == 2
        shown = capsys.readouterr()
        check_line(shown.err, message)
        assert not shown.out or verb == "run", "shown first, refused after"
        assert tree(tmp_path) == before, "something was left behind"


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("run", "unknown task"),
        ("run", "streets 'fifo.csv'"),
        ("run", "out '/dev/null/x'"),
        ("probe", "fifo-json"),
        ("report", "junk.jsonl"),
        ("nextlat-bench", "unknown verb"),
    ],
)
def test_a_real_process_refuses(
    verb: str, name: str, finished: Path, counts: tuple[Counter, Counter], tmp_path: Path
) -> None:
    arguments, message = COMMANDS[verb][name]
    arguments = prepared(arguments, finished, tmp_path)
    before = tree(tmp_path)
    with counted(counts, f"{verb}, in a process of its own"):
        done = subprocess.run(
            [sys.executable, "-m", "nextlat_bench", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"TERM": "dumb"},
            timeout=60,
        )
        assert done.returncode == 2
        check_line(done.stderr, message)
        assert tree(tmp_path) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OWNERS)
def test_every_field_refuses(name: str, counts: tuple[Counter, Counter]) -> None:
    """All wrong values of all fields of one class; whatever is taken, or unnamed, is listed."""
    owner, found = OWNERS[name], []
    for field, value, message in wrong_fields(owner):
        try:
            with counted(counts, name), within(SECONDS):
                with pytest.raises(ValueError, match=re.escape(message)) as caught:
                    owner(**base(owner) | {field: value})
                assert "\n" not in str(caught.value)
                assert len(str(caught.value)) < 1_000
        except (Exception, pytest.fail.Exception) as error:
            found.append(f"{name}({field} = {value!r:.60}): {type(error).__name__}: {error!s:.200}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", JSON_DAMAGE)
def test_damaged_json_is_no_run(name: str, counts: tuple[Counter, Counter]) -> None:
    damage, message = JSON_DAMAGE[name]
    value = path_star.run("nextlat", "smoke").to_json()
    assert Run.from_json(value).to_json() == value
    with counted(counts, "Run.from_json"), within(SECONDS):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            Run.from_json(damage(value))
        assert "\n" not in str(caught.value)


def test_the_catalogue_covers_every_verb() -> None:
    import typer.main

    from nextlat_bench.cli import app

    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(COMMANDS) - {"nextlat-bench"} == set(verbs)
    assert sum(map(len, COMMANDS.values())) >= AT_LEAST
