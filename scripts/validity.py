"""Measures every probe on every subject whose answer is known, at laptop scale, and leaves what the
page on validity shows in results/known.jsonl. Three minutes of one core.

python scripts/validity.py [FOLDER]    goes on with what is there already (runs/known)
"""

import sys
from pathlib import Path

from nextlat_bench import registry
from nextlat_bench.job import Asked, measure_known
from nextlat_bench.report.records import distinct, write
from nextlat_bench.report.validity import known_records, readings

RECORDS = Path(__file__).parents[1] / "results" / "known.jsonl"


def main(folder: Path) -> None:
    found = []
    for task in dict.fromkeys(reading.task for reading in readings()):
        mine = [reading for reading in readings() if reading.task == task]
        probes = list(dict.fromkeys(reading.probe for reading in mine))
        run = registry.load("presets", task).run("gpt", "laptop")
        for subject in dict.fromkeys(name for r in mine for name in ("oracle", *r.known)):
            print(task, subject, flush=True)
            found += measure_known(subject, run, folder, Asked(probes=probes))
    write(RECORDS, distinct(known_records(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/known"))
