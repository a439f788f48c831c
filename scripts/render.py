"""Renders every table and figure from the committed records to results/rendered/, also all of them
on one HTML page, and the README's tables, which stand between `<!-- table NAME -->` and
`<!-- end of table -->`.

python scripts/render.py [RUN_DIR ...]    first adds the records of these runs to the committed
"""

import re
import sys
from pathlib import Path

from nextlat_bench.report.contents import made, names
from nextlat_bench.report.figures import FIGURES, draw
from nextlat_bench.report.page import page
from nextlat_bench.report.records import Record, collect, distinct, read, write

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results" / "records"
RENDERED = ROOT / "results" / "rendered"
MARKED = r"<!-- table (\w+) -->.*?<!-- end of table -->"


def main(runs: list[str]) -> None:
    records = [r for path in sorted(RECORDS.glob("*.jsonl")) for r in read(path)]
    records = distinct([*records, *(collect(*runs) if runs else [])])
    for task in sorted({record.task for record in records}):
        mine = [record for record in records if record.task == task]
        write(RECORDS / f"{task}.jsonl", sorted(mine, key=lambda record: record.run))
    RENDERED.mkdir(exist_ok=True)
    for name in names():
        shown = made(name, records)
        texts = {"md": shown.markdown(), "tex": shown.latex(), "csv": shown.csv()}
        for suffix, text in texts.items():
            (RENDERED / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    for name in FIGURES:
        draw(name, records, RENDERED / f"{name}.png")
    (RENDERED / "report.html").write_text(page(records), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    shown = re.sub(MARKED, lambda found: marked(found[1], records), text, flags=re.DOTALL)
    readme.write_text(shown, encoding="utf-8")


def marked(name: str, records: list[Record]) -> str:
    """The table without its title, its seeds and its notes, between its marks."""
    return f"<!-- table {name} -->\n\n{made(name, records).summary()}\n<!-- end of table -->"


if __name__ == "__main__":
    main(sys.argv[1:])
