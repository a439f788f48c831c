"""A run is a folder. Every write goes to a temporary name and is renamed; DONE is written last.

run.json            what is trained: enough to rebuild everything
provenance.json     where and with what: versions, device, precision, command
metrics.jsonl       a row every few steps
checkpoints/STEP/   model.safetensors, state.pt, manifest.json with their digests; two are kept
model.safetensors   the trained weights, and trained.json: their digest and what they cost
records.jsonl       what the probes measured; validation.jsonl: on the validation split
DONE                there is nothing left to do
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nextlat_bench.run import Run

__all__ = ["InUseError", "RunDir", "RunDirError", "atomic_write"]

KEPT_CHECKPOINTS = 2


class RunDirError(ValueError):
    """A run folder that cannot be used as it is; the message says what to do."""


class InUseError(RunDirError):
    """Another process works in the folder."""


def atomic_write(path: Path, content: bytes) -> None:
    """All of it or nothing: a temporary file in the same folder, synced and renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirError(f"{path} does not exist: is {path.parent} a run folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path} is damaged ({error}): delete its folder and run again") from None
    if not isinstance(value, dict):
        raise RunDirError(f"{path} is damaged (no object): delete its folder and run again")
    return value


def to_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


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

    @classmethod
    def prepare(cls, out: str | Path, run: Run) -> "RunDir":
        """The folder of `run` under `out`, made if need be; an existing one must hold this run."""
        folder = cls(Path(out) / run.id)
        folder.path.mkdir(parents=True, exist_ok=True)
        content = to_bytes(run.to_json())
        if not folder.run_json.exists():
            atomic_write(folder.run_json, content)
        elif read_json(folder.run_json) != json.loads(content):
            raise RunDirError(f"{folder.run_json} describes another run: use another --out")
        return folder

    def run(self) -> Run:
        """The run that this folder holds."""
        return Run.from_json(read_json(self.run_json))

    @property
    def is_trained(self) -> bool:
        return self.model.exists() and self.trained.exists()

    @property
    def is_done(self) -> bool:
        return self.done.exists()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Two processes never work in one run folder. The lock dies with its process."""
        import fcntl

        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InUseError(f"{self.path} is in use by another process") from None
            yield

    # -- checkpoints ------------------------------------------------------------------------

    def save_checkpoint(self, step: int, files: dict[str, bytes]) -> None:
        """A folder that appears whole; older ones beyond the last two are removed."""
        self.checkpoints.mkdir(exist_ok=True)
        temporary = self.checkpoints / f".{step:08d}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        files = files | {"manifest.json": to_bytes({"step": step, "sha256": digests})}
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
            manifest = read_json(newest / "manifest.json")
            files = {name: (newest / name).read_bytes() for name in manifest["sha256"]}
        except (OSError, RunDirError, KeyError, TypeError):
            raise RunDirError(f"checkpoint {newest} is incomplete: {advice}") from None
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != manifest["sha256"][name]:
                raise RunDirError(f"checkpoint {newest / name} is damaged: {advice}")
        return int(manifest["step"]), files

    # -- metrics ----------------------------------------------------------------------------

    def metric_rows(self) -> list[dict[str, Any]]:
        """The logged rows; a last line cut off by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

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
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def trained_model(self) -> bytes:
        """The weights' bytes, checked against their digest."""
        if not self.is_trained:
            raise RunDirError(
                f"{self.path} holds no trained model: run the same command again to finish it"
            )
        content = self.model.read_bytes()
        if hashlib.sha256(content).hexdigest() != read_json(self.trained).get("model_sha256"):
            raise RunDirError(f"{self.model} is damaged: delete {self.path} and run again")
        return content
