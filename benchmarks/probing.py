"""Seconds that the probes which sample take, of a trained model of the laptop-scale taxi run, on
the CPU.

The model must be trained, since one that has learnt nothing stops at once: give its run folder
(`nextlat-bench run taxi`), or it is trained here first, in runs/.
"""

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks._core import Section
from nextlat_bench.presets import taxi
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes.compression import Compression
from nextlat_bench.probes.detours import Detours
from nextlat_bench.probes.distinction import Distinction
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.run_dir import RunDir
from nextlat_bench.train import train
from nextlat_bench.trained import TrainedModel, load_trained

__all__ = ["run", "trained"]

OUT = Path("runs")
PROBES: dict[str, Probe] = {
    "sequence compression, 1,000 states x 30 continuations": Compression(),
    "sequence distinction, 1,000 pairs x 30 continuations": Distinction(),
    "6,400 greedy traversals": Trajectories(num_trials=6_400),
    "1,000 detour trials at each of the paper's probabilities": Detours(num_trials=1_000),
}


def trained() -> TrainedModel:
    """The laptop-scale taxi model, trained first if it is not there."""
    wanted = taxi.run("nextlat")
    folder = RunDir.prepare(OUT, wanted)
    if not folder.is_trained:
        print(f"Training {wanted.id} first: about ten minutes of two cores.", flush=True)
        with folder.lock():
            train(wanted, folder)
    return load_trained(folder.path, "cpu")  # where its peer decodes, on counted threads


def run() -> list[Section]:
    subject, threads = trained(), torch.get_num_threads()
    table = Section("Probes of a trained laptop-scale taxi model", ["probe", "one core", "all"])
    try:
        for name, probe in PROBES.items():
            seconds = {}
            for count in (1, threads):
                torch.set_num_threads(count)
                begin = time.perf_counter()
                list(probe.measure(subject, subject.run.task, np.random.default_rng(0)))
                seconds[count] = time.perf_counter() - begin
            table.add(name, f"{seconds[1]:.1f} s", f"{seconds[threads]:.1f} s")
            table.facts[name] = {f"{n} threads": s for n, s in seconds.items()}
    finally:
        torch.set_num_threads(threads)
    return [table]
