"""Where and with what a run is made: written once, when it begins."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch

from nextlat_bench import parallel
from nextlat_bench.device import check_compiler, chosen_precision, cpu_name, native_bf16
from nextlat_bench.files import atomic_write
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError, read_json, sources, to_bytes
from nextlat_bench.tasks._core import Split, Task
from nextlat_bench.tasks._draws import DrawnTask

__all__ = ["settle_provenance"]


def settle_provenance(
    run: Run,
    run_dir: RunDir,
    device: str,
    compiled: bool,
    sharded: bool,
    resumed: bool,
    threads: int | None = None,
) -> dict[str, Any]:
    """Writes where and with what the run is made, once: its precision, fp32 or bf16, and more."""
    if resumed:
        return resumed_provenance(run, run_dir, device)
    if compiled:
        check_compiler(device)
    facts: dict[str, Any] = {
        "run_sha256": run_dir.run_digest,
        "precision": chosen_precision(run.training, device),
        "compiled": compiled,
        "sharded": sharded,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else cpu_name(),
        "threads": threads or torch.get_num_threads(),
        "processes": parallel.size(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("nextlat-bench", "torch", "numpy", "scipy")},
        "commit": commit(),
        "sources": sources(run),
        "rejected": rejected(run.task),
        "command": [word.encode(errors="replace").decode() for word in sys.argv],  # a path's bytes
    }
    atomic_write(run_dir.provenance, to_bytes(facts))
    return facts


def resumed_provenance(run: Run, run_dir: RunDir, device: str) -> dict[str, Any]:
    """What was written when the run began; a RunDirError where it cannot go on so on `device`."""
    advice = f"restore it, or delete {run_dir.path} and run again"
    if not run_dir.provenance.exists():
        raise RunDirError(f"{run_dir.provenance} is missing: {advice}")
    facts = read_json(run_dir.provenance, precision=str)
    precision = facts["precision"]
    if precision not in ("fp32", "bf16"):  # else it would go on in fp32
        found = f"precision = {precision!r}"
        raise RunDirError(f"{run_dir.provenance} is damaged ({found}): {advice}")
    if precision == "bf16" and run.training.precision == "auto" and not native_bf16(device):
        raise RunDirError(
            f"{run_dir.path} was begun in bf16, which {device} here lacks: "
            "finish it where it was begun, or delete the folder to start afresh"
        )
    if facts.get("compiled"):
        check_compiler(device)
    return facts


def rejected(task: Task) -> dict[str, float]:
    """By split the share of the candidates drawn that it left out, most of them as another
    split's; nothing of a task that draws none."""
    if not isinstance(task, DrawnTask):
        return {}
    return {split: round(task.rejection_rate(split), 6) for split in get_args(Split)}


def commit() -> str | None:
    """The source's commit, where it is a git checkout; not that of a repository whose environment
    the suite is installed in."""
    import subprocess

    file, said = Path(__file__), ""
    for words in (["ls-files", "--error-unmatch", file.name], ["rev-parse", "HEAD"]):
        command = ["git", "-C", str(file.parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        said = done.stdout.strip()
    return said
