"""Many runs, each brought to its end once: on this machine's cores, or on a Ray cluster.

The run folders are the only state. A sweep that is killed and begun again skips what is done and
goes on with what is not; two sweeps over the same folders share the work, cell by cell.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol

from nextlat_bench.console import SECONDS_BETWEEN_LINES, clock, told
from nextlat_bench.files import atomic_write
from nextlat_bench.job import BUSY, Asked, How, Tick
from nextlat_bench.run import Run
from nextlat_bench.run_dir import InUseError, RunDir

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Cell", "Engine", "JobError", "Local", "Sweep", "cores", "visible_gpus"]

SECONDS_BETWEEN_LOOKS = 0.5
SHOWN = 30  # cells of a longer sweep are shown while they run, or when they failed

State = Literal["waiting", "running", "elsewhere", "done", "failed"]
STYLES = {"running": "bold", "elsewhere": "cyan", "done": "green", "failed": "bold red"}


class JobError(Exception):
    """A job that ended badly; the message is its last line."""


class Engine(Protocol):
    """Where jobs run."""

    asked: Asked

    def finish(self, folder: RunDir) -> Iterator[Tick]:
        """Brings a run to its end, telling how far it is. InUseError, JobError."""

    def stop(self) -> None:
        """Ends all jobs now."""


class Local:
    """Each job a process of this machine, and each of its GPUs a job's at a time.

    `gpus`: their numbers, none on a CPU; where there are more `jobs` at a time, they share them.
    """

    def __init__(self, how: How, asked: Asked, gpus: Sequence[str] = (), jobs: int = 1) -> None:
        self.how, self.asked, self.stopping = how, asked, False
        self.free_gpus = (list(gpus) * jobs)[:jobs]  # a place for each job
        self.processes: set[subprocess.Popen[str]] = set()

    def finish(self, folder: RunDir) -> Iterator[Tick]:
        # -P: what lies in the current folder hides no library (`registry.expect_foreign`)
        command = [sys.executable, "-P", "-m", "nextlat_bench.job", str(folder.path)]
        own = {"OMP_NUM_THREADS": str(self.how.threads or 1), "OMP_WAIT_POLICY": "PASSIVE"}
        gpu = self.free_gpus.pop(0) if self.free_gpus else None
        if gpu is not None:
            own["CUDA_VISIBLE_DEVICES"] = gpu
        try:
            with (
                tempfile.TemporaryFile("w+", errors="replace") as errors,
                subprocess.Popen(
                    [*command, json.dumps(asdict(self.how)), json.dumps(asdict(self.asked))],
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=os.environ | own,
                ) as process,
            ):
                self.processes.add(process)
                try:
                    if self.stopping:
                        raise JobError("stopped")
                    assert process.stdout is not None
                    for line in process.stdout:
                        yield Tick(**json.loads(line))
                    code = process.wait()
                finally:
                    process.kill()  # does nothing to one that has ended
                    self.processes.discard(process)
                if code == BUSY:
                    raise InUseError(f"{folder.path} is in use by another process")
                if code:
                    raise JobError(last_words(code, errors, folder))
        finally:
            if gpu is not None:
                self.free_gpus.append(gpu)
        (folder.path / "error.txt").unlink(missing_ok=True)

    def stop(self) -> None:
        self.stopping = True
        for process in list(self.processes):
            process.terminate()


def last_words(code: int, errors: IO[str], folder: RunDir) -> str:
    """Why a process ended; more than a line of it is kept in its folder."""
    errors.seek(0)
    text = errors.read().strip()
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if "\n" in text:
        path = folder.path / "error.txt"
        atomic_write(path, text.encode())
        return f"{text.splitlines()[-1]} (all of it in {path})"
    return text or f"exit code {code}"


@dataclass
class Cell:
    """A run of the sweep and how far it is."""

    run: Run
    folder: RunDir
    state: State = "waiting"
    tick: Tick | None = None
    why: str = ""  # it failed
    begun: float = 0.0  # by a steady clock, as `ended`; both 0 where this sweep did not run it
    ended: float = 0.0


class Sweep:
    """Brings `runs` to their ends under `out`, `jobs` at a time; equal runs are one cell."""

    def __init__(self, runs: Sequence[Run], out: Path, engine: Engine, jobs: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.cells = [
            Cell(run, RunDir(out / name)) for name, run in {r.id: r for r in runs}.items()
        ]
        self.out, self.engine, self.jobs = out, engine, min(jobs, len(self.cells))
        self.queue = list(self.cells)
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.begun = time.monotonic()

    def run(self, screen: "Console") -> bool:
        """Works until every cell is done or has failed; whether all are done."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                workers = [pool.submit(self.work) for _ in range(self.jobs)]
                self.watch(screen, lambda: not all(worker.done() for worker in workers))
            except BaseException:
                self.stopped.set()
                self.engine.stop()
                raise
        for worker in workers:
            worker.result()
        return all(cell.state == "done" for cell in self.cells)

    def work(self) -> None:
        while not self.stopped.is_set():
            with self.lock:
                if not self.queue:
                    return
                cell = self.queue.pop(0)
            self.bring_to_end(cell)

    def bring_to_end(self, cell: Cell) -> None:
        try:
            RunDir.prepare(self.out, cell.run)
            measured = cell.folder.is_done and cell.folder.records.exists()
            if measured and self.engine.asked.is_all:
                cell.state = "done"
                return
            with cell.folder.lock():  # free? The job takes it for itself
                pass
            cell.state, cell.begun = "running", time.monotonic()
            for tick in self.engine.finish(cell.folder):
                cell.tick = tick
            if self.engine.asked.is_all and not cell.folder.is_done:
                raise JobError("its process ended before all was measured, without a word")
            cell.state, cell.ended = "done", time.monotonic()
        except InUseError:  # another sweep's: looked at again after all others
            cell.state = "elsewhere"
            with self.lock:
                self.queue.append(cell)
            self.stopped.wait(SECONDS_BETWEEN_LOOKS)
        except (JobError, ValueError, OSError) as error:
            cell.state, cell.why = "failed", " ".join((told(error) or str(error)).split())

    # -- what is seen of it -----------------------------------------------------------------

    def watch(self, screen: "Console", going: Callable[[], bool]) -> None:
        """Shows the cells until all are at an end: a live table, or a line at each change."""
        if not screen.is_terminal or screen.is_dumb_terminal:
            states, last = dict.fromkeys(range(len(self.cells)), "waiting"), time.monotonic()
            while going():
                time.sleep(0.1)
                last = self.print_changes(screen, states, last)
            self.print_changes(screen, states, last)
            return
        from rich.live import Live

        with Live(self.table(), console=screen, refresh_per_second=4) as live:
            while going():
                time.sleep(0.25)
                live.update(self.table())
            live.update(self.table())

    def print_changes(self, screen: "Console", states: dict[int, str], last: float) -> float:
        for index, cell in enumerate(self.cells):
            state = cell.state
            if state != states[index]:
                states[index] = state
                screen.print(f"{cell.run.id}  {state}  {cell.why}".rstrip(), highlight=False)
        if time.monotonic() - last < SECONDS_BETWEEN_LINES:
            return last
        for cell in self.cells:
            if cell.state == "running" and cell.tick is not None:
                screen.print("  ".join((cell.run.id, *progress_of(cell))), highlight=False)
        screen.print(self.summary(), highlight=False)
        return time.monotonic()

    def table(self) -> "Table":
        from rich.box import SIMPLE
        from rich.table import Table

        table = Table(box=SIMPLE, caption=self.summary(), caption_justify="left")
        for name in ("cell", "state", "step", "loss", "left"):
            table.add_column(name, justify="left" if name in ("cell", "state") else "right")
        for cell in self.cells:
            if len(self.cells) <= SHOWN or cell.state in ("running", "failed"):
                table.add_row(cell.run.id, *progress_of(cell), style=STYLES.get(cell.state, "dim"))
        return table

    def summary(self) -> str:
        """12 cells: 3 done, 2 running, 7 waiting; 4:10 so far, about 12:00 left"""
        counts = Counter(cell.state for cell in self.cells)
        parts = ", ".join(f"{counts[state]} {state}" for state in counts)
        so_far = f"{clock(time.monotonic() - self.begun)} so far"
        left = self.seconds_left()
        return f"{len(self.cells)} cells: {parts}; {so_far}" + (
            f", about {clock(left)} left" if left else ""
        )

    def seconds_left(self) -> float:
        """As if the cells to come took as long as those that were run; 0 where none was."""
        took = [cell.ended - cell.begun for cell in self.cells if cell.ended]
        if not took:
            return 0.0
        each, now = sum(took) / len(took), time.monotonic()
        running = (each - now + cell.begun for cell in self.cells if cell.state == "running")
        waiting = sum(cell.state == "waiting" for cell in self.cells)
        return (sum(max(left, 0.0) for left in running) + each * waiting) / self.jobs


def progress_of(cell: Cell) -> tuple[str, str, str, str]:
    """State, or the probes that it is at, and step, loss and time left of its training."""
    tick = cell.tick
    if tick is None or cell.state != "running":
        return cell.why or cell.state, "", "", ""
    if tick.loss is None or tick.seconds_left is None:
        return f"{tick.what} {tick.done}/{tick.total}, {tick.note}", "", "", ""
    return tick.what, f"{tick.done}/{tick.total}", f"{tick.loss:.3f}", clock(tick.seconds_left)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
