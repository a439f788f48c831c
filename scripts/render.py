"""Renders every table and figure from the committed records to results/rendered/, also all of them
on one HTML page, and the README's tables, which stand between `<!-- table NAME -->` and
`<!-- end of table -->`.

python scripts/render.py [RUN_DIR ...]    first adds the records of these runs to the committed,
                                          also those of the validation split (results/choices),
                                          their training curves, their street maps, and where
                                          and with what each was trained (results/provenance)
"""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from nextlat_bench.report.columns import DASH
from nextlat_bench.report.contents import made, names, settled
from nextlat_bench.report.exhibits import Exhibits, collect_exhibits, run_folders, to_json
from nextlat_bench.report.facts import brief as file_name
from nextlat_bench.report.figures import FIGURES, draw
from nextlat_bench.report.page import page
from nextlat_bench.report.records import Record, collect, collect_tried, distinct, write
from nextlat_bench.report.sheets import Grid, Sheet
from nextlat_bench.report.tables import Row, Table
from nextlat_bench.report.verdicts import SEEDS
from nextlat_bench.run_dir import RunDir, read_json

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results" / "records"
CHOICES = ROOT / "results" / "choices"
RENDERED = ROOT / "results" / "rendered"
PROVENANCE = ROOT / "results" / "provenance.jsonl"
BRIEF = {  # the columns of each table that the README has
    "taxi": {"Valid, legal %", "Valid, reached %", "Compression", "Compression, published"}
    | {"Latent rank", "Detours 0.75, legal %"},
    "countdown": {"Held-out targets %", "Seen targets %", "Released reading %"},
    "a5": {"Trunk at 1x %", "Trunk at 3x %", "Recurrent at 3x %", "Recurrent at 20x %"}
    | {"Reach, recurrent"},
    "speculation": {"Speed-up, prose", "Speed-up, code", "16 at a time, prose"}
    | {"Accepted, prose", "Accepted, code"},
}
MARKED = r"<!-- table (\w+) -->.*?<!-- end of table -->"


def main(runs: list[str]) -> None:
    records = added(RECORDS, collect(*runs) if runs else [])
    tried = added(CHOICES, collect_tried(*map(Path, runs)))
    exhibits = collect_exhibits(*map(Path, runs))
    keep(exhibits, {record.run: record.task for record in records})
    keep_provenance(run_folders(*map(Path, runs)), {record.run for record in [*records, *tried]})
    RENDERED.mkdir(exist_ok=True)
    (RENDERED / "machines.md").write_text(machines(records, tried), encoding="utf-8")
    chosen = settled(records, tried)
    for name in names():
        shown = made(name, records, tried)
        texts = {"md": shown.markdown(), "tex": shown.latex(), "csv": shown.csv()}
        for suffix, text in texts.items():
            (RENDERED / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    for name in FIGURES:
        draw(name, chosen, RENDERED / f"{name}.png", exhibits)
    (RENDERED / "report.html").write_text(
        page(records, exhibits=exhibits, tried=tried), encoding="utf-8"
    )
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    shown = re.sub(MARKED, lambda found: marked(found[1], records, tried), text, flags=re.DOTALL)
    readme.write_text(shown, encoding="utf-8")


def added(folder: Path, new: list[Record]) -> list[Record]:
    """All records of a folder's files, a task each, with the new ones, which are written there and
    replace what was known of their runs."""
    folder.mkdir(exist_ok=True)
    again = {record.run for record in new}
    known = [record for record in collect(folder) if record.run not in again]
    records = distinct([*known, *new])
    for task in sorted({record.task for record in records}):
        mine = [record for record in records if record.task == task]
        write(folder / f"{task}.jsonl", sorted(mine, key=lambda record: record.run))
    return records


def keep(exhibits: Exhibits, tasks: dict[str, str]) -> None:
    """Those of these runs, whose tasks are given: curves by task, a line a run; a file a map."""
    lines: dict[str, bytes] = {}
    for run, curve in sorted(exhibits.curves.items()):
        if run in tasks:
            lines[tasks[run]] = lines.get(tasks[run], b"") + to_json(curve)
    files = {ROOT / "results" / "curves" / f"{task}.jsonl": text for task, text in lines.items()}
    for run, sketch in exhibits.maps.items():
        if run in tasks:
            files[ROOT / "results" / "maps" / f"{run}.json"] = to_json(sketch)
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def keep_provenance(folders: list[Path], named: set[str]) -> None:
    """A line a run that `named` has: commit, machine, versions and seconds of its training."""
    known = PROVENANCE.read_text(encoding="utf-8").splitlines() if PROVENANCE.exists() else []
    lines = {json.loads(line)["run"]: line for line in known}
    for folder in map(RunDir, folders):
        if (run := folder.path.name) in named and folder.trained.exists():
            facts = read_json(folder.provenance) | read_json(folder.trained)
            del facts["command"]  # the settings are the records'; its paths are nobody's business
            lines[run] = json.dumps({"run": run, **facts})
    kept = sorted(line for run, line in lines.items() if run in named)
    PROVENANCE.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def machines(records: list[Record], tried: list[Record]) -> str:
    """Which runs were trained on which machine: those of the tables, then the grid's."""
    lines = PROVENANCE.read_text(encoding="utf-8").splitlines()
    kept = {facts["run"]: facts for facts in map(json.loads, lines)}
    counted: dict[tuple[str, ...], list[int]] = {}
    for where, rows in (("tables", records), ("grid", tried)):
        for run in {row.run: row for row in rows if row.step > 0}.values():
            streets = run.task_parameters.get("streets")
            map_name = f", {file_name(streets['source'])}" if isinstance(streets, dict) else ""
            facts = kept.get(run.run, {"device": "not kept", "precision": "–"})  # noqa: RUF001
            who = where, run.task + map_name, run.objective, facts["device"], facts["precision"]
            counted.setdefault(who, []).append(run.seed)
    out = [
        "# Where each run was trained\n",
        "By task and objective, of whatever settings. Run by run, with commit, versions and",
        "seconds, in [provenance.jsonl](../provenance.jsonl); of early runs it was not kept.",
    ]
    for where in ("tables", "grid"):
        its = {who[1:]: seeds for who, seeds in sorted(counted.items()) if who[0] == where}
        total: Counter[str] = Counter()
        for (*_, machine, precision), seeds in its.items():
            total[f"{machine} ({precision})"] += len(seeds)
        said = ", ".join(f"{n} {name}" for name, n in total.most_common())
        out += [f"\n## Runs of the {where}: {total.total()}\n", f"{said}.\n"]
        out += ["| Task | Objective | Machine | Precision | Runs | Seeds |"]
        out += ["|:--|:--|:--|:--|--:|:--|"]
        for facts, seeds in its.items():
            every = ", ".join(map(str, sorted(set(seeds))))
            out.append(f"| {' | '.join(facts)} | {len(seeds)} | {every} |")
    return "\n".join(out) + "\n"


def marked(name: str, records: list[Record], tried: list[Record] | None = None) -> str:
    """What the README shows of a table, between its marks: the settings that a grid chose; of a
    sheet the first grid."""
    shown = made(name, settled(records, tried), tried)
    first = replace(shown, grids=shown.grids[:1]) if isinstance(shown, Sheet) else brief(shown)
    return f"<!-- table {name} -->\n\n{first.summary()}\n<!-- end of table -->"


def brief(table: Table) -> Sheet:
    """Its models of three seeds and more, in some of its columns, the paper's numbers beside."""
    at = [i for i, column in enumerate(table.columns) if column.heading in BRIEF[table.name]]
    head = ("Model", "Seeds", *(table.columns[i].heading for i in at))
    grids = []
    for heading, rows in table.blocks(seeds=False).items():
        shown: list[tuple[Row, list[list[str]]]] = []  # whose, and the lines of their cells
        for row in rows:
            cells = [table.columns[i].lines(row.cells[i]) for i in at]
            if row.source == "measured" and row.num_seeds >= SEEDS and row.objective != "oracle":
                shown.append((row, cells))
            elif row.source == "paper":  # beside the first of its horizon, if it names one
                horizon = row.variant.get("horizon")
                alike = (
                    its
                    for other, its in shown
                    if other.objective == row.objective
                    and horizon in (None, other.variant.get("horizon"))
                )
                for mine, (its, *_) in zip(next(alike, []), cells, strict=False):
                    mine += [f"(paper {its})"] * (its != DASH)
        if shown:
            texts = ((*row.heads, *map("\n".join, cells)) for row, cells in shown)
            grids.append(Grid(heading, head, tuple(texts), numbers=True))
    return Sheet(table.name, table.title, tuple(grids), (), ())


if __name__ == "__main__":
    main(sys.argv[1:])
