"""A sweep's jobs on a Ray cluster. No file system need be shared.

A run folder travels to the node that works on it, so a begun run goes on from its checkpoint
wherever it lands; what the job writes there comes back as it is written. The sweep's own folder is
therefore as complete at any moment as that of a local run, whatever becomes of the node.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextlat_bench.files import atomic_write
from nextlat_bench.job import Asked, How, Tick
from nextlat_bench.measure import known_identity
from nextlat_bench.run_dir import RunDir
from nextlat_bench.sweep import JobError, Local

__all__ = ["OnRay"]

SECONDS_BETWEEN_PARCELS = 10.0

LATE = ("metrics.jsonl", "checkpoints", "model.safetensors", "trained.json", "DONE")

Parcel = dict[str, dict[str, bytes] | None]  # files of each file or checkpoint; None: it is gone
Seen = dict[str, list[tuple[int, int]]]  # time and size of each file when last looked at


class OnRay:
    """Each job a task of a Ray cluster: of RAY_ADDRESS, the one that runs here, or a new one.

    A GPU each where the cluster has any; where there are more `jobs` at a time, they share them.
    """

    def __init__(self, how: How, asked: Asked, jobs: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError("--engine ray needs Ray: pip install 'nextlat-bench[ray]'") from None
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="error")
        device, needs, places = placed(how.device, ray.cluster_resources(), jobs)
        self.ray, self.how, self.asked = ray, replace(how, device=device), asked
        self.there = ray.remote(**needs, max_retries=0)(finish_there)
        self.jobs = jobs or places
        self.tasks: set[Any] = set()

    def finish(self, folder: RunDir) -> Iterator[Tick]:
        """As `Local.finish`; the folder stays locked here while the job works elsewhere."""
        run, out = folder.run(), folder.path.parent
        names = [folder.path.name, known_identity("oracle", run.task, run.scale)["run"]]
        with folder.lock():
            parcel = pack(out, names, {})
            there = self.there.options(num_returns="streaming")
            task = there.remote(names, parcel, self.how, self.asked)
            self.tasks.add(task)
            try:
                for reference in task:
                    tick, parcel = self.ray.get(reference)
                    folder.check_locked()
                    unpack(out, parcel)
                    if tick is not None:
                        yield tick
            except self.ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, JobError):
                    raise JobError(str(error.cause)) from None
                raise JobError(" ".join(str(error).split())[-300:]) from None
            except self.ray.exceptions.RayError as error:
                raise JobError(f"Ray: {' '.join(str(error).split())[:300]}") from None
            finally:
                self.tasks.discard(task)

    def stop(self) -> None:
        for task in list(self.tasks):
            self.ray.cancel(task, force=True)


def placed(
    device: str | None, has: Mapping[str, float], jobs: int | None
) -> tuple[str, dict[str, float], int]:
    """The device of all jobs on a cluster that `has` these resources, what each of them asks it
    for, and how many of them it has room for when `jobs` is None."""
    gpus = int(has.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise ValueError("--device cuda: the Ray cluster has no GPU")
    if device == "cpu" or not gpus:
        return "cpu", {"num_cpus": 1}, max(1, int(has.get("CPU", 1)))
    return "cuda", {"num_gpus": min(1.0, gpus / (jobs or gpus))}, gpus


def finish_there(
    names: list[str], parcel: Parcel, how: How, asked: Asked
) -> Iterator[tuple[Tick | None, Parcel]]:
    """On the node: works in a folder of its own and hands over what changes there."""
    with tempfile.TemporaryDirectory(prefix="nextlat-bench-") as scratch:
        out, seen = Path(scratch), Seen()
        unpack(out, parcel)
        pack(out, names, seen)
        last = time.monotonic()
        try:
            for tick in Local(how, asked).finish(RunDir(out / names[0])):
                due = time.monotonic() - last > SECONDS_BETWEEN_PARCELS
                yield tick, pack(out, names, seen) if due else {}
                if due:
                    last = time.monotonic()
        except JobError as error:
            yield None, pack(out, names, seen)  # its error.txt, and what was trained until then
            raise JobError(str(error).replace(f"{scratch}/", "")) from None
        yield None, pack(out, names, seen)


def pack(out: Path, names: list[str], seen: Seen) -> Parcel:
    """What is not as it was when last `seen` in the folders `names`.

    A job may write meanwhile: a checkpoint that vanishes is passed over, and the metrics are read
    after the checkpoints, so that they cover them.
    """
    parcel: Parcel = {}
    present = set()
    for path in [p for name in names for p in units(out / name)]:
        name = str(path.relative_to(out))
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        try:
            stamp = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files]
            contents = {file.name: file.read_bytes() for file in files}
        except FileNotFoundError:
            continue
        present.add(name)
        if seen.get(name) != stamp:
            seen[name], parcel[name] = stamp, contents
    for name in seen.keys() - present:
        del seen[name]
        parcel[name] = None
    return parcel


def units(folder: Path) -> list[Path]:
    """Checkpoints, each whole, then the files of a folder; without what is not yet renamed."""
    paths = [*RunDir(folder).saved(), *(p for p in sorted(folder.glob("*")) if p.is_file())]
    return [path for path in paths if not path.name.startswith(".")]


def unpack(out: Path, parcel: Parcel) -> None:
    """Writes a parcel so that a kill at any moment leaves a folder to go on from: metrics before
    the checkpoints that they cover, each of these whole; DONE after all; removals in the end."""

    def turn(name: str) -> int:
        part = Path(name).parts[1]
        return LATE.index(part) if part in LATE else -1

    for name in sorted(parcel, key=turn):
        path, files = out / name, parcel[name]
        if files is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name != "checkpoints":
            atomic_write(path, files[path.name])
            continue
        new = path.with_name(f".{path.name}.tmp")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for file, content in files.items():
            atomic_write(new / file, content)
        shutil.rmtree(path, ignore_errors=True)
        new.replace(path)
    for path in (out / name for name, files in parcel.items() if files is None):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
