"""Seconds until something happens: `--help`, importing a generator, the first training step."""

import subprocess
import sys
import tempfile
import time

from benchmarks._core import Section, shown, spread

__all__ = ["run"]

ROUNDS = 5
COMMANDS = {
    "nextlat-bench --help": ["-m", "nextlat_bench", "--help"],
    "from nextlat_bench.tasks.countdown import Countdown": [
        "-c",
        "from nextlat_bench.tasks.countdown import Countdown",
    ],
    "one example of Taxi on the full map, from nothing": [
        "-c",
        "from nextlat_bench.tasks.taxi import Taxi; Taxi().sample('train', 0, 1)",
    ],
    "import torch, for comparison": ["-c", "import torch"],
    "the first training step of the laptop-scale taxi run, from nothing": [
        "-c",
        "import sys\n"
        "from pathlib import Path\n"
        "from nextlat_bench.presets import taxi\n"
        "from nextlat_bench.run_dir import RunDir\n"
        "from nextlat_bench.train import train\n"
        "def stop(progress): sys.exit()\n"
        "run = taxi.run('nextlat')\n"
        "train(run, RunDir.prepare(Path(sys.argv[1]), run), progress=stop)\n",
    ],
}


def run() -> list[Section]:
    table = Section("Start-up, wall clock", ["what", "seconds"])
    for name, command in COMMANDS.items():
        taken = []
        for _ in range(ROUNDS + 1):
            with tempfile.TemporaryDirectory() as folder:
                begin = time.perf_counter()
                subprocess.run([sys.executable, *command, folder], check=True, capture_output=True)
                taken.append(time.perf_counter() - begin)
        table.add(name, shown(spread(taken[1:])))
        table.facts[name] = spread(taken[1:])
    return [table]
