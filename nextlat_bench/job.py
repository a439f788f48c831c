"""One run brought to its end: trained, probed, its reference measured, DONE.

`python -m nextlat_bench.job RUN_DIR` does so in a process of its own and tells its progress on
standard output, a JSON object a line: this is how a sweep works, here or on another machine.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nextlat_bench.console import clock
from nextlat_bench.measure import chosen_probes, known_identity, measure, run_identity
from nextlat_bench.report.records import Record
from nextlat_bench.run import Run
from nextlat_bench.run_dir import InUseError, RunDir, atomic_write

__all__ = ["BUSY", "Tick", "finish", "measure_known", "measure_run", "train_run"]

BUSY = 75  # exit code: another process has the folder (EX_TEMPFAIL of sysexits.h)
SECONDS_BETWEEN_TICKS = 0.5


@dataclass(frozen=True)
class Tick:
    """What a progress display is told: `done` of `total` steps or probes of what is going on."""

    what: str
    done: int
    total: int
    note: str = ""
    loss: float | None = None
    seconds_left: float | None = None


Listen = Callable[[Tick], None]


def silence(tick: Tick) -> None:
    """A listener that does not."""


def finish(
    folder: RunDir,
    *,
    device: str | None = None,
    threads: int | None = None,
    compiled: bool = False,
    split: str = "test",
    listen: Listen = silence,
) -> tuple[list[Record], list[Record]]:
    """Trains and probes the run of a folder; (its records, those of the oracle).

    What is there already is kept. `InUseError` where another process works in the folder.
    """
    run = folder.run()
    with folder.lock():
        train_run(folder, run, device, threads, compiled, listen)
        reference = measure_known("oracle", run, folder.path.parent, split, listen)
        records = measure_run(folder, run, None, device, split, listen)
        if split == "test":
            atomic_write(folder.done, b"")
    return records, reference


def train_run(
    folder: RunDir,
    run: Run,
    device: str | None,
    threads: int | None,
    compiled: bool,
    listen: Listen = silence,
) -> None:
    """Trains the run of a folder, if it is not trained."""
    if folder.is_trained:
        return
    from nextlat_bench.train import train  # torch only where something is to be trained

    train(
        run,
        folder,
        device=device,
        threads=threads,
        compiled=compiled,
        progress=lambda p: listen(
            Tick(
                "training",
                p.step,
                p.steps,
                f"loss {p.loss:.3f}  {p.tokens_per_second:,.0f} tokens/s  "
                f"{clock(p.seconds_left)} left",
                p.loss,
                p.seconds_left,
            )
        ),
    )


def measure_run(
    folder: RunDir,
    run: Run,
    probes: list[str] | None,
    device: str | None,
    split: str,
    listen: Listen = silence,
) -> list[Record]:
    """The records of a trained run; those that are missing are measured."""
    from nextlat_bench.trained import load_trained

    return measure(
        load_trained(folder.path, device),
        run.task,
        chosen_probes(run.task.name, run.scale, probes),
        run_identity(run),
        folder.path,
        lambda m: listen(Tick("probing", m.index, m.total, m.probe or "done")),
        split,
    )


def measure_known(
    name: str,
    run: Run,
    out: Path,
    split: str,
    listen: Listen = silence,
    probes: list[str] | None = None,
) -> list[Record]:
    """The records of a subject whose answer is known, on the task of `run`.

    They have a folder of their own under `out`. Nothing where another process is at it.
    """
    from nextlat_bench.subject import known_subject

    subject, identity = known_subject(name, run.task), known_identity(name, run.task, run.scale)
    chosen = chosen_probes(run.task.name, run.scale, probes)
    folder = RunDir(out / identity["run"])
    folder.path.mkdir(parents=True, exist_ok=True)
    what = f"probing the {name.replace('_', ' ')}"
    try:
        with folder.lock():
            return measure(
                subject,
                run.task,
                chosen,
                identity,
                folder.path,
                lambda m: listen(Tick(what, m.index, m.total, m.probe or "done")),
                split,
            )
    except InUseError:
        return []


class Teller:
    """Writes ticks as lines, twice a second at most.

    Once nobody reads them any more, a line fails to be written and ends the process: a job does
    not outlive the sweep that began it.
    """

    def __init__(self) -> None:
        self.last, self.what = 0.0, ""

    def __call__(self, tick: Tick) -> None:
        now = time.monotonic()
        if tick.what != self.what or now - self.last > SECONDS_BETWEEN_TICKS:
            self.last, self.what = now, tick.what
            print(json.dumps(asdict(tick)), flush=True)


def main(arguments: list[str]) -> int:
    """`RUN_DIR [OPTIONS]`, the options of `finish` as a JSON object."""
    options: dict[str, Any] = json.loads(arguments[1]) if len(arguments) > 1 else {}
    try:
        finish(RunDir(arguments[0]), **options, listen=Teller())
    except InUseError:
        return BUSY
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
