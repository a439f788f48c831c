"""Renders every table from the committed records to results/rendered/, and the README's from it.

python scripts/render.py [RUN_DIR ...]    first adds the records of these runs to the committed
"""

import re
import sys
from pathlib import Path

from nextlat_bench.report.records import collect, distinct, read, write
from nextlat_bench.report.tables import names, table

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results" / "records"
RENDERED = ROOT / "results" / "rendered"


def main(runs: list[str]) -> None:
    records = [r for path in sorted(RECORDS.glob("*.jsonl")) for r in read(path)]
    records = distinct([*records, *(collect(*runs) if runs else [])])
    for task in sorted({record.task for record in records}):
        mine = [record for record in records if record.task == task]
        write(RECORDS / f"{task}.jsonl", sorted(mine, key=lambda record: record.run))
    RENDERED.mkdir(exist_ok=True)
    for name in names():
        made = table(name, records)
        for suffix, text in (("md", made.markdown()), ("tex", made.latex()), ("csv", made.csv())):
            (RENDERED / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    readme = ROOT / "README.md"
    block = (RENDERED / "taxi.md").read_text(encoding="utf-8").split("\n\n")[1:3]
    shown = "\n\n".join(["<!-- table -->", *block, "<!-- end of table -->"])
    text = readme.read_text(encoding="utf-8")
    pattern = r"<!-- table -->.*<!-- end of table -->"
    readme.write_text(re.sub(pattern, lambda _: shown, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
