"""The command line: parse, import what is needed, call, print."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nextlat_bench.console import clock, console, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from nextlat_bench.run import Run
    from nextlat_bench.run_dir import RunDir

__all__ = ["app", "main"]

app = typer.Typer(
    name="nextlat-bench",
    help="Did this sequence model learn the world behind its data, or a pile of shortcuts?\n\n"
    "Start with: nextlat-bench run taxi --objective nextlat",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="taxi, path_star, countdown or a5.")]
Scale = Annotated[
    str, typer.Option(help="smoke (a minute), laptop (two cores, minutes) or paper (its sizes).")
]
Streets = Annotated[
    str | None,
    typer.Option(help="Taxi's map: heliopolis, a GraphML, OSM XML or CSV file, or a place name."),
]
Graph = Annotated[
    str | None,
    typer.Option(metavar="DxL", help="Path-Star's graph: 2x5 has two arms, five nodes a path."),
]
Objective = Annotated[str, typer.Option(help="gpt, mtp, jtp, nextlat, noisy_nextlat, bst or gru.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PART.FIELD=VALUE", help="e.g. training.steps=100; repeatable."),
]
Out = Annotated[Path, typer.Option(help="Where run folders live.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU where there is one.")]


def known_split(name: str) -> str:
    from nextlat_bench import registry
    from nextlat_bench.tasks._core import SPLITS

    return registry.check_name("split", name, list(SPLITS))


Split = Annotated[
    str,
    typer.Option(callback=known_split, help="Probed: test; validation while you choose settings."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]


def main() -> None:
    """Entry point. Errors that a user can cause are one line and exit code 2."""
    # Threads that wait should sleep: with another process busy, spinning ones cost ten times more.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        if os.environ.get("NEXTLAT_BENCH_TRACEBACK"):
            raise
        refuse(str(error))
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own: a missing or wrong argument
            refuse(error.format_message())
        raise
    if code == INTERRUPTED:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
    sys.exit(code)


def refuse(message: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    if message:  # empty where the help page was printed instead
        print(f"nextlat-bench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def preset(
    task: str,
    objective: str,
    scale: str,
    seed: int,
    settings: list[str] | None,
    **options: str | None,
) -> "Run":
    """The preset's run; `options` are those that only some presets take, None where not given."""
    import inspect

    from nextlat_bench import registry
    from nextlat_bench.run import SCALES

    registry.check_name("task", task, registry.names("tasks"))
    registry.check_name("objective", objective, registry.names("objectives"))
    registry.check_name("scale", scale, list(SCALES))
    make = registry.load("presets", task).run
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - inspect.signature(make).parameters:
        raise ValueError(f"--{name} is not for {task}")
    run: Run = make(objective, scale, seed, **given)
    return run.override(settings or [])


@app.command()
def run(
    task: TaskName,
    objective: Objective = "nextlat",
    scale: Scale = "laptop",
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and probes.")] = 0,
    streets: Streets = None,
    graph: Graph = None,
    settings: Settings = None,
    out: Out = Path("runs"),
    device: Device = None,
    threads: Threads = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile: faster steps after a minute.")
    ] = False,
    split: Split = "test",
) -> None:
    """Trains a model, probes it and shows its measurements beside the paper's.

    Stopped or killed, the same command goes on where it was; finished, it shows the results again.

    Example: nextlat-bench run path_star --objective gpt --graph 3x4 --seed 1
    """
    from nextlat_bench.run_dir import RunDir, atomic_write
    from nextlat_bench.train import chosen_device, train

    chosen_device(device)  # refused before anything is written
    chosen = preset(task, objective, scale, seed, settings, streets=streets, graph=graph)
    folder = RunDir.prepare(out, chosen)
    screen = console()
    screen.print(f"[bold]{chosen.id}[/]  in {folder.path}", highlight=False)
    with folder.lock():
        if not folder.is_trained:
            with progress_bar(screen, "training") as advance:
                train(
                    chosen,
                    folder,
                    device=device,
                    threads=threads,
                    compiled=compiled,
                    progress=lambda p: advance(
                        p.step,
                        p.steps,
                        f"loss {p.loss:.3f}  {p.tokens_per_second:,.0f} tokens/s  "
                        f"{clock(p.seconds_left)} left",
                    ),
                )
        reference = measure_known(screen, "oracle", chosen, out, split)
        records = measure_run(screen, folder, chosen, None, device, split)
        if split == "test":
            atomic_write(folder.done, b"")
    show_measurements(screen, records, reference, split)


def measure_run(
    screen: "Console",
    folder: "RunDir",
    run: "Run",
    probes: list[str] | None,
    device: str | None,
    split: str,
) -> list[Any]:
    from nextlat_bench.measure import chosen_probes, measure, run_identity
    from nextlat_bench.trained import load_trained

    with progress_bar(screen, "probing") as advance:
        return measure(
            load_trained(folder.path, device),
            run.task,
            chosen_probes(run.task.name, run.scale, probes),
            run_identity(run),
            folder.path,
            lambda m: advance(m.index, m.total, m.probe or "done"),
            split,
        )


def measure_known(screen: "Console", name: str, run: "Run", out: Path, split: str) -> list[Any]:
    from nextlat_bench.measure import chosen_probes, known_identity, measure
    from nextlat_bench.subject import known_subject

    identity = known_identity(name, run.task, run.scale)
    with progress_bar(screen, f"probing the {name.replace('_', ' ')}") as advance:
        return measure(
            known_subject(name, run.task),
            run.task,
            chosen_probes(run.task.name, run.scale, None),
            identity,
            out / identity["run"],
            lambda m: advance(m.index, m.total, m.probe or "done"),
            split,
        )


@app.command()
def probe(
    subject: Annotated[
        str, typer.Argument(metavar="RUN_DIR|SUBJECT", help="A run folder, or e.g. oracle.")
    ],
    probes: Annotated[
        list[str] | None, typer.Argument(metavar="[PROBE]...", help="Default: the preset's.")
    ] = None,
    task: Annotated[str, typer.Option(help="For a subject whose answer is known.")] = "taxi",
    scale: Scale = "laptop",
    streets: Streets = None,
    graph: Graph = None,
    settings: Settings = None,
    out: Out = Path("runs"),
    device: Device = None,
    split: Split = "test",
) -> None:
    """Probes a finished run, or a subject whose answer is known (oracle, uniform, wrong_map, ...).

    What was measured already is not measured again.

    Example: nextlat-bench probe runs/taxi-nextlat-laptop-s0-1f2e3d4c compression
    """
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.subject import KNOWN
    from nextlat_bench.taggers import OF_WORDS

    screen = console()
    known = KNOWN | OF_WORDS
    if subject in known:
        chosen = preset(task, "gpt", scale, 0, settings, streets=streets, graph=graph)
        records = measure_known(screen, subject, chosen, out, split)
        show_measurements(screen, records, [], split)
        return
    folder = RunDir(subject)
    if not folder.path.is_dir():
        raise ValueError(
            f"{subject} is neither a run folder nor a known subject ({', '.join(known)})"
        )
    with folder.lock():
        records = measure_run(screen, folder, folder.run(), probes, device, split)
    show_measurements(screen, records, [], split)


@app.command()
def show(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A folder under runs/.")],
    map: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draws the street map that its traversals imply."),
    ] = None,
) -> None:
    """Shows a run: what was asked, where it was made, how far it is, what was measured.

    Example: nextlat-bench show runs/taxi-nextlat-laptop-s0-1f2e3d4c --map map.png
    """
    from nextlat_bench.report.records import read
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.show import draw_map, run_view

    folder, screen = RunDir(run_dir), console()
    screen.print(run_view(folder))
    if folder.records.exists():
        show_measurements(screen, read(folder.records), [])
    if map is not None:
        draw_map(folder, map)


@app.command()
def plan(
    task: TaskName,
    objective: Objective = "nextlat",
    scale: Scale = "paper",
    streets: Streets = None,
    graph: Graph = None,
    settings: Settings = None,
) -> None:
    """Counts what a run would take, without starting it: parameters, tokens, FLOPs, memory, time.

    Example: nextlat-bench plan taxi --scale paper
    """
    from nextlat_bench.show import plan_view

    chosen = preset(task, objective, scale, 0, settings, streets=streets, graph=graph)
    console().print(plan_view(chosen))


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
    from nextlat_bench.samples import write_samples

    chosen = preset(task, "gpt", scale, 0, settings, streets=streets, graph=graph).task
    batch = chosen.sample(split, start, n)
    if out is not None:
        write_samples(out, chosen, batch)
        print(f"{n} examples of {task}, split {split}, in {out}")
        return
    for tokens in batch.tokens:
        print(chosen.text(tokens))


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
        if kind in registry.KINDS:
            entries = [(name, registry.summary(kind, name)) for name in registry.names(kind)]
        else:
            entries = other_entries(kind)
        for name, line in entries:
            print(f"  {name:<20} {line}")


@app.command()
def report(
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Default: all there are.")
    ] = None,
    format: Annotated[str, typer.Option(help="terminal, md, tex or csv.")] = "terminal",
    records: Annotated[
        Path | None,
        typer.Option(help="Run folders or record files; default: runs/, else the committed ones."),
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Draws DIR/TABLE.png")] = None,
) -> None:
    """Prints the paper's tables from measured records, beside the paper's own numbers.

    Example: nextlat-bench report taxi --format md
    """
    from nextlat_bench import registry
    from nextlat_bench.report.figures import draw
    from nextlat_bench.report.records import found
    from nextlat_bench.report.tables import names, table

    registry.check_name("format", format, ["terminal", "md", "tex", "csv"])
    rows, source = found(records)
    for name in tables or names():
        made = table(name, rows)
        if format == "terminal":
            screen = console()
            screen.print(made.terminal(screen.width))
            print(f"from {source}")
        else:
            print({"md": made.markdown, "tex": made.latex, "csv": made.csv}[format](), end="")
        if figures is not None:
            path = figures / f"{name}.png"
            print(path if draw(name, rows, path) else f"{name}: nothing to draw", file=sys.stderr)


def show_measurements(
    screen: "Console", records: list[Any], reference: list[Any], split: str = "test"
) -> None:
    from nextlat_bench.report.view import measurements_view

    screen.print(measurements_view(records, reference, split))
