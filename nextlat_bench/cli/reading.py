"""Verbs that look at what there is: show, sample, export, list, report."""

import sys
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from stat import S_ISREG
from textwrap import fill
from typing import Annotated

import typer

from nextlat_bench.cli.options import Graph, Scale, Settings, Streets, TaskName, app, preset
from nextlat_bench.console import console

__all__: list[str] = []


@app.command()
def show(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A folder under runs/.")],
    map: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the street map that the model's routes imply."),
    ] = None,
) -> None:
    """Shows a run: what was asked, where it was made, how far it is, what was measured.

    Example: nextlat-bench show runs/taxi-nextlat-laptop-s0-1f2e3d4c --map map.png
    """
    from nextlat_bench.report.records import own
    from nextlat_bench.report.view import measurements_view
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.show import check_map, draw_map, run_view

    folder, screen = RunDir(run_dir), console()
    if map is not None:
        check_map(folder, map)
    records = own(folder.records)
    view = run_view(folder)
    if map is not None:
        draw_map(folder, map)  # what it refuses is refused before anything is shown
    screen.print(view)
    if records:
        screen.print(measurements_view(records, []))


@app.command()
def sample(
    task: TaskName,
    n: Annotated[int, typer.Option("-n", min=1, help="How many examples.")] = 5,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    start: Annotated[int, typer.Option(min=0, help="Number of the first one.")] = 0,
    scale: Scale = "laptop",
    streets: Streets = None,
    graph: Graph = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="FILE.npz (arrays) or FILE.jsonl (a line an example).")
    ] = None,
) -> None:
    """Draws examples of a task and prints them, or writes them to a file.

    Example: nextlat-bench sample taxi -n 5
    """
    from nextlat_bench.data import checked
    from nextlat_bench.samples import texts, write_samples

    chosen = preset(task, "gpt", scale, 0, settings, streets=streets, graph=graph).task
    batch = checked(chosen.sample(split, start, n), chosen)
    if out is not None:
        write_samples(out, chosen, batch)
        print(f"{len(batch.tokens)} examples of {task}, split {split}, in {out}")
        return
    for text in texts(chosen, batch):
        print(text)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A folder under runs/.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    format: Annotated[
        str, typer.Option(help="nextlat-bench; or llama, for transformers.")
    ] = "nextlat-bench",
) -> None:
    """Writes a trained model as two files: model.safetensors and config.json.

    nextlat_bench.subject.load(DIR) reads it, and `probe --model DIR` probes it.

    Example: nextlat-bench export runs/taxi-nextlat-laptop-s0-1f2e3d4c my_model
    """
    from nextlat_bench.export import export as write

    print(write(run_dir, out, format))


@app.command(name="list")
def list_(
    what: Annotated[
        str | None, typer.Argument(help="tasks, objectives, probes, tables, subjects or streets.")
    ] = None,
) -> None:
    """Lists what there is, each with a line on what it does."""
    from nextlat_bench import registry
    from nextlat_bench.show import other_entries

    kinds = ["tasks", "objectives", "probes", "tables", "subjects", "streets"]
    for kind in kinds if what is None else [registry.check_name("list", what, kinds)]:
        print(f"{kind}:")
        lines = [*(registry.entries(kind) if kind in registry.KINDS else other_entries(kind))]
        wide = max((len(name) for name, _ in lines), default=0)
        width = get_terminal_size().columns if sys.stdout.isatty() else None  # else a line each
        for name, line in lines:
            head = f"  {name:<{wide}}  "
            if width:
                indent = " " * len(head)
                print(fill(line, width, initial_indent=head, subsequent_indent=indent))
            else:
                print(head + line)


@app.command()
def report(
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE]...", help="Names of `list tables`. Default: all."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="terminal, md, tex, csv or html (one page, pictures inline).")
    ] = "terminal",
    records: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder of runs, a run or a file; repeatable. Default: runs/, or the committed."
        ),
    ] = None,
    shipped: Annotated[
        bool, typer.Option("--committed", help="Use the committed records even if runs/ exists.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw their figures there.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Writes a file: .md, .tex, .csv or .html.")
    ] = None,
) -> None:
    """Prints the paper's claims and tables from measured records, beside the paper's own numbers.

    Example: nextlat-bench report taxi --format md

    Example: nextlat-bench report --format html --out report.html
    """
    from nextlat_bench import registry
    from nextlat_bench.files import atomic_write
    from nextlat_bench.report.contents import made, names, settled
    from nextlat_bench.report.exhibits import collect_exhibits
    from nextlat_bench.report.figures import draw, figures_of
    from nextlat_bench.report.page import page
    from nextlat_bench.report.records import collect_tried, found

    forms = ["md", "tex", "csv", "html"]
    registry.check_name("format", format, ["terminal", *forms])
    if out is not None:
        if format == "terminal" and out.suffix[1:] in forms:
            format = out.suffix[1:]
        check_out(out, format)
    if figures is not None and figures.exists() and not figures.is_dir():
        raise ValueError(f"--figures {figures} is not a folder: name a new or an existing one")
    if shipped and records:
        raise ValueError(f"--records {records[0]} and --committed: choose one of them")
    own = [] if shipped else records or [Path("runs")]
    check_tables(tables or [], own)
    rows, source = found(records or [], shipped)
    chosen = tables or names(rows)
    exhibits = collect_exhibits(*own) if figures or format == "html" else None
    if figures is not None:
        if odd := [name for name in chosen if not registry.SAFE.fullmatch(name)]:  # a file's, too
            raise ValueError(
                f"--figures {figures}: no file can be named after the task {odd[0]!r} that records "
                f"in {source} have; delete or mend these, or leave --figures out"
            )
        figures.mkdir(parents=True, exist_ok=True)  # now, lest its tables be made for nothing
    validation = collect_tried(*own)
    if records and not rows and not validation:
        raise ValueError(f"no records in {source}: run something with --out {records[0]}")
    tried = validation if records or validation else None  # None: the committed ones
    shown = (made(name, rows, tried) for name in chosen)
    if format == "terminal":
        screen = console()
        for each in shown:
            screen.print(each.terminal(screen.width))
            print(f"from {source_of(each.name, source, own, tried is not None)}")
    else:
        if format == "html":
            text = page(rows, tables or (), exhibits, tried)
        else:
            form = {"md": "markdown", "tex": "latex", "csv": "csv"}[format]
            text = "".join(getattr(each, form)() for each in shown)
        if out is None:
            print(text, end="")
        else:
            atomic_write(out, text.encode())
            print(f"{out}: from {source}")
    if figures is not None:
        drawn_of = settled(rows, tried)
        for drawing in (d for name in chosen for d in figures_of(name, rows)):
            path = figures / f"{drawing}.png"
            drawn = draw(drawing, drawn_of, path, exhibits)
            print(path if drawn else f"{drawing}: nothing to draw", file=sys.stderr)


def source_of(name: str, source: str, own: list[Path], of_its_own: bool) -> str:
    """Where the numbers of a table come from, in words."""
    if name == "validity":
        return f"{source}; known models are the committed ones where it has none but the oracle"
    if name == "choices":
        mine = ", ".join(map(str, own))
        return mine if of_its_own else "the committed grid of nextlat-bench"
    return source


def check_tables(tables: list[str], own: list[Path]) -> None:
    """Refuses a name that is neither the suite's nor that of a task in these records, the only ones
    that are read for it."""
    from nextlat_bench.registry import check_name
    from nextlat_bench.report.contents import names
    from nextlat_bench.report.records import collect

    if unknown := [name for name in tables if name not in names()]:
        known = names(collect(*(path for path in own if path.exists())))
        for name in unknown:
            check_name("table", name, known)


def check_out(out: Path, format: str) -> None:
    """Refuses what could not be written, before anything is made."""
    if format == "terminal":
        known = ".md, .tex, .csv or .html: name it so, or say --format"
        raise ValueError(f"--out {out}: a file is written as {known}")
    with suppress(FileNotFoundError, NotADirectoryError):
        if not S_ISREG(out.stat().st_mode):
            raise ValueError(f"--out {out}: is not a regular file")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}")
