"""One run brought to its end: trained, probed, its reference measured, DONE.

`python -m nextlat_bench.job RUN_DIR HOW ASKED` does so in a process of its own and tells its
progress on standard output, a JSON object a line: this is how a sweep works, here or elsewhere.
"""

import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from nextlat_bench.console import clock, told
from nextlat_bench.files import atomic_write, visible
from nextlat_bench.known import known_subject
from nextlat_bench.measure import (
    chosen_probes,
    known_identity,
    measure,
    model_identity,
    run_identity,
)
from nextlat_bench.report.records import Record
from nextlat_bench.run import Run
from nextlat_bench.run_dir import InUseError, RunDir, sources
from nextlat_bench.subject import Subject

__all__ = [
    "BUSY",
    "Asked",
    "How",
    "Tick",
    "finish",
    "measure_known",
    "measure_model",
    "measure_run",
    "train_run",
]

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


@dataclass(frozen=True)
class How:
    """What decides how a run is trained but not what it learns; see `nextlat_bench.train.train`."""

    device: str | None = None
    threads: int | None = None
    compiled: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class Asked:
    """What is measured of a run once it is trained: all of its preset's probes, or these."""

    split: str = "test"
    probes: list[str] | None = None

    @property
    def is_all(self) -> bool:
        """Is a run at its end with it?"""
        return self == Asked()


def finish(
    folder: RunDir, how: How, asked: Asked, listen: Listen = silence
) -> tuple[list[Record], list[Record]]:
    """Trains and probes the run of a folder; (its records, those of the oracle).

    What is there already is kept. `InUseError` where another process works in the folder.
    """
    from nextlat_bench import parallel
    from nextlat_bench.device import chosen_device

    run = folder.run()
    with ExitStack() as kept:
        with parallel.group(chosen_device(how.device)):
            leads = parallel.rank() == 0  # and keeps the folder
            if leads:
                kept.enter_context(folder.lock())
            train_run(folder, run, how, listen if leads else silence)
        if not leads:  # the others' GPUs are free while it is probed
            return [], []
        reference = measure_reference(run, folder.path.parent, asked, listen)
        records = measure_run(folder, run, asked, how.device, listen)
        if asked.is_all and not folder.is_done:
            atomic_write(folder.done, b"")
    return records, reference


def train_run(folder: RunDir, run: Run, how: How, listen: Listen) -> None:
    """Trains the run of a folder, if it is not trained."""
    from nextlat_bench.train import Progress, train

    def progress(p: Progress) -> None:
        left = clock(p.seconds_left)
        note = f"loss {p.loss:.3f}  {p.tokens_per_second:,.0f} tokens/s  {left} left"
        listen(Tick("training", p.step, p.steps, note, p.loss, p.seconds_left))

    train(run, folder, **asdict(how), progress=progress)


def measure_reference(run: Run, out: Path, asked: Asked, listen: Listen) -> list[Record]:
    """The oracle's records; none where the task knows no right answers, or if another process is
    at it."""
    if not run.task.parallel and run.task.world() is None:
        return []
    try:
        return measure_known("oracle", run, out, asked, listen)
    except InUseError:
        return []


def measure_run(
    folder: RunDir, run: Run, asked: Asked, device: str | None, listen: Listen = silence
) -> list[Record]:
    """The records of a trained run; those that are missing are measured."""
    from nextlat_bench.trained import load_trained

    def tell(probe: str, done: int, total: int) -> None:
        folder.check_locked()
        listen(Tick("probing", done, total, probe))

    return measure(
        load_trained(folder.path, device),
        run.task,
        chosen_probes(run.task.name, run.scale, asked.probes),
        run_identity(run),
        folder.path,
        tell,
        asked.split,
    )


def measure_known(
    name: str, run: Run, out: Path, asked: Asked, listen: Listen = silence
) -> list[Record]:
    """The records of a subject whose answer is known, on the task of `run`.

    They have a folder of their own under `out`.
    """
    subject, identity = known_subject(name, run.task), known_identity(name, run.task, run.scale)
    what = f"probing the {name.replace('_', ' ')}"
    return measure_apart(what, subject, identity, run, out, asked, listen)


def measure_model(
    where: str, run: Run, out: Path, asked: Asked, device: str | None, listen: Listen = silence
) -> list[Record]:
    """The records of somebody's own model on the task of `run`: a Hugging Face folder or a dotted
    name. An exported model brings its own run, on whose task it is measured."""
    from nextlat_bench.adapters import load_model
    from nextlat_bench.export import exported_digest, is_exported
    from nextlat_bench.trained import load_trained

    if not is_exported(where):
        model = load_model(where, run.task, device)
        identity = model_identity(model.kind, model.facts, run.task, run.scale)
        what = f"probing {model.name}"
        return measure_apart(what, model, identity, run, out, asked, listen)
    trained = load_trained(Path(where), device)
    own = trained.run
    if own.task.name != run.task.name:
        raise ValueError(f"{where} is a model of {own.task.name}: add --task {own.task.name}")
    digest = exported_digest(where)[:8]
    if code := sources(own):  # {} for what comes with the suite
        digest += f"-{zlib.crc32(json.dumps(code, sort_keys=True).encode()):08x}"
    identity = run_identity(own) | {"run": f"{own.id}-{digest}"}
    identity["objective_parameters"] |= {"exported": digest}  # a copy, in no mean with the run
    return measure_apart(f"probing {own.id}", trained, identity, own, out, asked, listen)


def measure_apart(
    what: str,
    subject: Subject,
    identity: dict[str, Any],
    run: Run,
    out: Path,
    asked: Asked,
    listen: Listen,
) -> list[Record]:
    """The records of a subject without a run folder: they have a folder of their own."""
    chosen = chosen_probes(run.task.name, run.scale, asked.probes)
    folder = RunDir(out / identity["run"])
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        return measure(
            subject,
            run.task,
            chosen,
            identity,
            folder.path,
            lambda probe, done, total: listen(Tick(what, done, total, probe)),
            asked.split,
        )


class Teller:
    """Writes ticks as lines, twice a second at most.

    Once nobody reads them any more, a line fails to be written and ends the process: a job does
    not outlive the sweep that began it.
    """

    def __init__(self, file: TextIO) -> None:
        self.file, self.last, self.what = file, 0.0, ""

    def __call__(self, tick: Tick) -> None:
        now = time.monotonic()
        if tick.what != self.what or now - self.last > SECONDS_BETWEEN_TICKS:
            self.last, self.what = now, tick.what
            print(json.dumps(asdict(tick)), file=self.file, flush=True)


def main(arguments: list[str]) -> int:
    """`RUN_DIR HOW ASKED`, the latter two as JSON objects."""
    folder, how = RunDir(arguments[0]), How(**json.loads(arguments[1]))
    asked = Asked(**json.loads(arguments[2]))
    # what a plugin prints, or a program that it starts, is not to be mistaken for a tick
    listen = Teller(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        finish(folder, how, asked, listen)
    except InUseError:
        return BUSY
    except (Exception, SystemExit) as error:
        whole = os.environ.get("NEXTLAT_BENCH_TRACEBACK") and isinstance(error, Exception)
        if whole or (message := told(error)) is None:
            raise
        print(visible(" ".join(message.split())), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
