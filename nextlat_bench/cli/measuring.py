"""Verbs that measure: run, probe, plan."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nextlat_bench.cli.options import (
    Device,
    Graph,
    Objective,
    Out,
    Scale,
    Settings,
    Split,
    Streets,
    TaskName,
    Threads,
    app,
    preset,
)
from nextlat_bench.console import console, progress_bars

__all__: list[str] = []


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
    from nextlat_bench.job import finish
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.train import chosen_device

    chosen_device(device)  # refused before anything is written
    chosen = preset(task, objective, scale, seed, settings, streets=streets, graph=graph)
    for drawn in ("train", split):
        chosen.task.prompts(drawn, 0, 1)  # a split that nothing is of, too
    folder = RunDir.prepare(out, chosen)
    screen = console()
    screen.print(f"[bold]{chosen.id}[/]  in {folder.path}", highlight=False)
    with progress_bars(screen) as advance:
        records, reference = finish(
            folder,
            device=device,
            threads=threads,
            compiled=compiled,
            split=split,
            listen=lambda t: advance(t.what, t.done, t.total, t.note),
        )
    show_measurements(records, reference, split)


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
    from nextlat_bench.job import measure_known, measure_run
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.subject import KNOWN
    from nextlat_bench.taggers import OF_WORDS

    known = KNOWN | OF_WORDS
    with progress_bars(console()) as advance:

        def listen(tick: Any) -> None:
            advance(tick.what, tick.done, tick.total, tick.note)

        if subject in known:
            chosen = preset(task, "gpt", scale, 0, settings, streets=streets, graph=graph)
            records = measure_known(subject, chosen, out, split, listen, probes)
        else:
            folder = RunDir(subject)
            if not folder.path.is_dir():
                raise ValueError(
                    f"{subject} is neither a run folder nor a known subject ({', '.join(known)})"
                )
            chosen = folder.run()
            with folder.lock():
                records = measure_run(folder, chosen, probes, device, split, listen)
    show_measurements(records, [], split)


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


def show_measurements(records: list[Any], reference: list[Any], split: str) -> None:
    from nextlat_bench.report.view import measurements_view

    console().print(measurements_view(records, reference, split))
