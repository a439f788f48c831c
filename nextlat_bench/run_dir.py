"""A run is a folder. Every write goes to a temporary name and is renamed; DONE is written last.

run.json            what is trained: enough to rebuild everything
provenance.json     where and with what: versions, device, precision, command
metrics.jsonl       a row every few steps
checkpoints/STEP/   model.safetensors, state.pt, manifest.json with their digests; two are kept
model.safetensors   the trained weights, and trained.json: their digest and what they cost
records.jsonl       what the probes measured; validation.jsonl: on the validation split
PROBE.json          what figures need and no record holds, e.g. map_reconstruction.json
DONE                there is nothing left to do
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from nextlat_bench.files import (
    atomic_write,
    check_kinds,
    parse_json,
    read_bytes,
    take_lock,
    whole_rows,
)
from nextlat_bench.run import Run, check_run
from nextlat_bench.sources import source

__all__ = ["InUseError", "RunDir", "RunDirError", "sources"]

CHECKPOINT_SCHEMA = 1
KEPT_CHECKPOINTS = 2

T = TypeVar("T")


class RunDirError(ValueError):
    """A run folder that cannot be used as it is; the message says what to do."""


class InUseError(RunDirError):
    """Another process works in the folder."""


def read_json(path: Path, **kinds: type) -> dict[str, Any]:
    """The object in a file, with entries of these kinds."""
    try:
        return check_kinds(parse_json(read_bytes(path)), path.name, **kinds)
    except (FileNotFoundError, NotADirectoryError):
        why = f"{path} does not exist: is {path.parent} a run folder?"
        if (path.parent / "records.jsonl").exists():
            why += " It holds measurements, which nextlat-bench report --records shows"
        raise RunDirError(why) from None
    except ValueError as error:
        raise RunDirError(
            f"{path} is damaged ({error}): restore it, or delete its folder and run again"
        ) from None


def to_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def sources(run: Run) -> dict[str, str]:
    """Digests of the code of a run's plugins from elsewhere: {"task lift": ...}."""
    plugins = {"task": run.task, "objective": run.objective}
    found = {f"{kind} {plugin.name}": source(plugin) for kind, plugin in plugins.items()}
    return {what: digest["source_digest"] for what, digest in found.items() if digest}


class RunDir:
    """The folder of one run; `path` may not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.provenance = self.path / "provenance.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model.safetensors"
        self.trained = self.path / "trained.json"
        self.records = self.path / "records.jsonl"
        self.done = self.path / "DONE"
        self.locked: os.stat_result | None = None  # the lock that this process has

    @classmethod
    def prepare(cls, out: str | Path, run: Run) -> "RunDir":
        """The folder of `run` under `out`, made if need be; an existing one must hold this run."""
        folder = cls(Path(out) / run.id)
        if not folder.run_json.exists():
            content = to_bytes(run.to_json())
            if Run.from_json(json.loads(content)) != run:  # before hours are spent on it
                raise RunDirError(f"{run.id} would not be read back as it is: what is not frozen?")
            folder.path.mkdir(parents=True, exist_ok=True)
            atomic_write(folder.run_json, content)
        folder.expect(run)
        return folder

    def expect(self, run: Run) -> None:
        """Raises a RunDirError unless this is the folder of `run`, with the code it began with."""
        if read_json(self.run_json) != json.loads(to_bytes(run.to_json())):
            self.run()  # says what is wrong, if it is no run of this version
            raise RunDirError(f"{self.run_json} describes another run: use another --out")
        self.check_begun(run)

    def run(self) -> Run:
        """The run that this folder holds; a task or an objective of somebody's own must say what
        it said when the run began."""
        run = self._read_run(Run.from_json)
        self.check_begun(run)
        return run

    @property
    def run_digest(self) -> str:
        """Of what run.json says, however it is laid out."""
        return hashlib.sha256(to_bytes(read_json(self.run_json))).hexdigest()

    def check_same_run(self, begun: dict[str, Any]) -> None:
        """Refuses a run.json that has changed since the run began, as its provenance says."""
        digest = self.run_digest
        if begun.get("run_sha256", digest) != digest:
            raise RunDirError(
                f"{self.run_json} is of another run than the one that was begun here: restore it, "
                "or delete the folder and run again"
            )

    def check_begun(self, run: Run) -> None:
        """Data of two worlds never meet in one run: refuses a run.json, or code, that has changed
        since it began. Runs that began with an older version say nothing of theirs."""
        if not self.provenance.exists():
            return
        begun, now = read_json(self.provenance), sources(run)
        self.check_same_run(begun)
        before = begun.get("sources", now)
        for what in now:
            if now[what] != before.get(what):
                raise RunDirError(
                    f"{self.path} was begun with other code of the {what}: put its file, and those "
                    "beside it that it imports, back as they were, or begin anew with another --out"
                )

    def run_facts(self) -> dict[str, Any]:
        """The run as run.json has it; loads no torch."""
        return self._read_run(check_run)

    def _read_run(self, read: Callable[[dict[str, Any]], T]) -> T:
        content = read_json(self.run_json)
        try:
            return read(content)
        except ValueError as error:
            raise RunDirError(f"{self.path}: {error}") from None

    @property
    def is_trained(self) -> bool:
        return self.model.exists() and self.trained.exists()

    @property
    def is_done(self) -> bool:
        return self.done.exists()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Two processes never work in one run folder. The lock dies with its process.

        What a killed process was writing is removed. Where nothing can be written, nothing needs
        to be kept from others.
        """
        if not os.access(self.path, os.W_OK):
            yield
            return
        path = self.path / ".lock"
        for own in (path, self.metrics):  # not renamed into place: a link would lead elsewhere
            if own.is_symlink() or (own.exists() and not own.is_file()):
                raise RunDirError(f"{own} is not a regular file: remove it")
        with path.open("a") as file:
            try:
                take_lock(file)
            except BlockingIOError:
                raise InUseError(f"{self.path} is in use by another process") from None
            except OSError as error:  # as of some disks that machines share
                raise RunDirError(
                    f"{self.path} cannot be kept from other processes ({error.strerror}): name a "
                    "folder of another disk with --out"
                ) from None
            for left in [*self.path.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp")]:
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                elif not left.name.startswith(".run.json."):  # which is written without the lock
                    left.unlink()
            self.locked = os.fstat(file.fileno())
            try:
                yield
            finally:
                self.locked = None

    def check_locked(self) -> None:
        """Raises a RunDirError where the lock that this process had was removed: another one may
        have begun anew in its folder."""
        if self.locked is None:
            return
        path = self.path / ".lock"
        with suppress(FileNotFoundError):
            if os.path.samestat(self.locked, path.stat()):
                return
        raise RunDirError(
            f"{path} was removed while a process worked there, and with it what keeps others "
            "out: run the same command again"
        )

    @property
    def in_use(self) -> bool:
        """Does a process work in it at this moment?"""
        path = self.path / ".lock"
        if not path.is_file():
            return False
        try:
            with path.open() as file:
                take_lock(file, shared=True)
        except BlockingIOError:
            return True
        except OSError:  # it may not be read
            return False
        return False

    # -- checkpoints ------------------------------------------------------------------------

    def save_checkpoint(self, step: int, files: dict[str, bytes]) -> None:
        """A folder that appears whole; older ones beyond the last two are removed."""
        self.checkpoints.mkdir(exist_ok=True)
        temporary = self.checkpoints / f".{step:08d}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = {"schema": CHECKPOINT_SCHEMA, "step": step, "sha256": digests}
        files = files | {"manifest.json": to_bytes(manifest)}
        for name, content in files.items():
            atomic_write(temporary / name, content)
        target = self.checkpoints / f"{step:08d}"
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        for old in self.saved()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def saved(self) -> list[Path]:
        """Checkpoint folders, oldest first."""
        return sorted(p for p in self.checkpoints.glob("*") if p.is_dir() and p.name.isdigit())

    def load_checkpoint(self) -> tuple[int, dict[str, bytes]] | None:
        """(step, files) of the newest checkpoint; None for a run that never began.

        A missing or damaged one is an error, never a silent fresh start.
        """
        saved = self.saved()
        if not saved:
            self.check_halves()
            if self.metrics.exists():
                raise RunDirError(
                    f"{self.path} was being trained but holds no checkpoint: "
                    "restore its checkpoints folder, or delete the run folder to start afresh"
                )
            return None
        newest = saved[-1]
        others = (
            f"it alone to go on from step {int(saved[-2].name)}"
            if len(saved) > 1
            else ("the run folder to start afresh")
        )
        advice = f"restore it, or delete {others}"
        try:
            manifest = read_json(newest / "manifest.json", step=int, sha256=dict)
            schema = manifest.get("schema", CHECKPOINT_SCHEMA)  # the first ones had none
            names = manifest["sha256"] if schema == CHECKPOINT_SCHEMA else ()
            if names and manifest["step"] != int(newest.name):
                raise ValueError("a step that is not its folder's")
            # no name leads out of the folder
            files = {name: read_bytes(newest / Path(name).name) for name in names}
        except (OSError, ValueError):
            raise RunDirError(f"checkpoint {newest} is incomplete: {advice}") from None
        if schema != CHECKPOINT_SCHEMA:
            raise RunDirError(
                f"checkpoint {newest} has schema {schema!r}, this version reads "
                f"{CHECKPOINT_SCHEMA}: go on with the nextlat-bench version that wrote it"
            )
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != manifest["sha256"][name]:
                raise RunDirError(f"checkpoint {newest / name} is damaged: {advice}")
        return int(manifest["step"]), files

    # -- metrics ----------------------------------------------------------------------------

    def metric_rows(self) -> list[dict[str, Any]]:
        """The logged rows; a last line cut off by a kill is left out."""
        return whole_rows(read_bytes(self.metrics), step=int) if self.metrics.exists() else []

    def rewind_metrics(self, step: int) -> None:
        """Drops what was logged after `step`: the resumed run writes it again."""
        kept = [row for row in self.metric_rows() if row["step"] <= step]
        atomic_write(self.metrics, "".join(json.dumps(row) + "\n" for row in kept).encode())

    # -- the end ----------------------------------------------------------------------------

    def finish_training(self, model: bytes, facts: dict[str, Any]) -> None:
        """The trained weights and what they cost; the checkpoints have served."""
        atomic_write(self.model, model)
        digest = hashlib.sha256(model).hexdigest()
        atomic_write(self.trained, to_bytes(facts | {"model_sha256": digest}))
        self.remove_checkpoints()

    def remove_checkpoints(self) -> None:
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def check_halves(self) -> None:
        """A trained model is two files: where one is lost, training cannot go on either."""
        for there, lost in ((self.trained, self.model), (self.model, self.trained)):
            if there.exists() and not lost.exists():
                raise RunDirError(
                    f"{lost} is missing: restore it, or delete {self.path} and run again"
                )

    def trained_model(self) -> bytes:
        """The weights' bytes, checked against their digest."""
        if not self.is_trained:
            if not self.saved():
                self.check_halves()
            raise RunDirError(
                f"{self.path} holds no trained model: run the same command again to finish it"
            )
        content = read_bytes(self.model)
        if hashlib.sha256(content).hexdigest() != read_json(self.trained).get("model_sha256"):
            raise RunDirError(
                f"{self.model} is damaged: restore it, or delete {self.path} and run again"
            )
        return content
