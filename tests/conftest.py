"""A small city, subjects whose answers are known, and what the probes of behaviour say of them."""

import os

# As the command line: no core spins waiting. And one thread to each of the processes that share
# the machine in a test: two took twice the time of one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # a process that hangs can be asked where

import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_maps import DIRECTIONS, MAP_SUBJECTS
from hypothesis import settings

from nextlat_bench.known import known_subject
from nextlat_bench.probes._core import Measurement, Probe
from nextlat_bench.subject import Subject
from nextlat_bench.sweep import cores
from nextlat_bench.tasks._core import IntArray, Split
from nextlat_bench.tasks.taxi import Taxi

# A suite that runs in a shell's background ignores Ctrl-C, and so would all that it begins.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else this machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SEED = 7  # of every measurement
# Minutes each, begun first: at the end no worker is left alone with one of them.
LONGEST = ("test_sweep.py", "test_parallel.py", "test_cli.py", "test_guides.py", "test_faults.py")

Streets = list[dict[str, int]]
Measured = dict[tuple[str, str], Measurement]


def streets_of(neighbour: np.ndarray) -> Streets:
    """For each intersection, where its exits lead: the map as references read it."""
    return [
        {direction: int(v) for direction, v in zip(DIRECTIONS, row, strict=True) if v >= 0}
        for row in neighbour
    ]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Of `pytest -n auto`: one more than there are cores, which were idle for two fifths of the
    time; tests wait for processes that they begin, kill and begin again."""
    return cores() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


TABLES = pytest.StashKey[dict[str, list[tuple[object, ...]]]]()


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> dict[str, list[tuple[object, ...]]]:
    """Title -> rows, the heading first: printed when all tests are over."""
    return pytestconfig.stash.setdefault(TABLES, {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of `pytest -n` hands its tables to the process that prints."""
    if hasattr(session.config, "workeroutput"):
        tables = session.config.stash.get(TABLES, {})
        session.config.workeroutput["tables"] = {
            title: [[str(cell) for cell in row] for row in rows] for title, rows in tables.items()
        }


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    tables = node.config.stash.setdefault(TABLES, {})
    for title, (head, *rows) in getattr(node, "workeroutput", {}).get("tables", {}).items():
        tables.setdefault(title, [tuple(head)]).extend(map(tuple, rows))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for title, rows in config.stash.get(TABLES, {}).items():
        terminalreporter.section(title)
        widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (str(cell).ljust(w) for cell, w in zip(row, widths, strict=True))
            terminalreporter.write_line("  ".join(cells).rstrip())


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the cache of whoever runs it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEXTLAT_BENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def taxi() -> Taxi:
    """144 intersections of Heliopolis, so that 1 / V < 0.01, the usual epsilon."""
    return Taxi(radius=500, max_nodes=40, max_path=20, max_new=40)


class Few(Taxi):
    """A split of thirty pairs of places."""

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        return super().prompts(split, start, min(n, 30))


@pytest.fixture(scope="session")
def few(taxi: Taxi) -> Few:
    return Few(**{f.name: getattr(taxi, f.name) for f in fields(taxi)})


@pytest.fixture(scope="session")
def streets(taxi: Taxi) -> Streets:
    return streets_of(taxi.map.neighbour)


@pytest.fixture(scope="session")
def known(taxi: Taxi) -> dict[str, Subject]:
    return {name: known_subject(name, taxi) for name in MAP_SUBJECTS}


@pytest.fixture(scope="session")
def wrong_streets(known: dict[str, Subject]) -> Streets:
    """The map that the subject `wrong_map` believes in."""
    return streets_of(known["wrong_map"].world.streets.neighbour)


@pytest.fixture(scope="session")
def measured(taxi: Taxi, known: dict[str, Subject]) -> Callable[[Probe, str], Measured]:
    """(probe, subject's name) -> its measurements by metric and condition."""

    @remember
    def measure(probe: Probe, name: str) -> Measured:
        rows = probe.measure(known[name], taxi, np.random.default_rng(SEED))
        return {(row.metric, row.condition): row for row in rows}

    return measure


@pytest.fixture(scope="session")
def followers(taxi: Taxi) -> dict[tuple[str, str] | None, Counter[str]]:
    """What followed each two tokens in the training walks that `forgetful` saw; None: overall."""
    counts: dict[tuple[str, str] | None, Counter[str]] = defaultdict(Counter)
    for walk in taxi.sample("train", 0, 4096).tokens:
        tokens = taxi.vocab.decode(walk)
        for a, b, answer in zip(tokens, tokens[1:], tokens[2:], strict=False):
            counts[a, b][answer] += 1
            counts[None][answer] += 1
    return dict(counts)


@pytest.fixture(scope="session")
def habit(taxi: Taxi, followers: dict) -> Callable[[list[str]], str]:
    """What `forgetful` finds likeliest after these tokens; ties go to the lowest id."""

    def likeliest(tokens: list[str]) -> str:
        counts = followers.get(tuple(tokens[-2:]), followers[None])
        return min(counts, key=lambda token: (-counts[token], taxi.vocab.ids[token]))

    return likeliest
