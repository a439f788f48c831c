"""Verbs that measure: run, sweep, probe, plan."""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextlat_bench.cli.options import (
    Device,
    Graph,
    Objective,
    Out,
    Probes,
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

if TYPE_CHECKING:
    from nextlat_bench.run import Run

__all__ = ["cells"]


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
        bool,
        typer.Option(
            "--compile",
            help="torch.compile: faster steps, after a minute. A begun run goes on as it began.",
        ),
    ] = False,
    sharded: Annotated[
        bool,
        typer.Option("--shard", help="Under torchrun: each process keeps a part of the weights."),
    ] = False,
    probes: Probes = None,
    split: Split = "test",
) -> None:
    """Trains a model, probes it and shows its measurements beside the paper's.

    Stopped or killed, the same command goes on where it was; finished, it shows the results again.

    Example: nextlat-bench run path_star --objective gpt --graph 3x4 --seed 1
    """
    from nextlat_bench.device import chosen_device, native_bf16
    from nextlat_bench.job import Asked, How, finish
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.train import check_processes

    place = chosen_device(device)  # refused before anything is written
    chosen = preset(task, objective, scale, seed, settings, streets=streets, graph=graph)
    check_processes(chosen, sharded)
    check_split(chosen.task, split)
    only = only_these(probes, chosen.task.name)
    folder = RunDir.prepare(out, chosen)
    screen = console()
    screen.print(f"{chosen.id}  in {folder.path}", highlight=False, soft_wrap=True)
    if chosen.training.precision == "bf16" and not native_bf16(place):
        screen.print(f"bf16 is emulated by this {place}: training.precision=fp32 is much faster")
    with progress_bars(screen) as advance:
        records, reference = finish(
            folder,
            How(device, threads, compiled, sharded),
            Asked(split, only),
            lambda t: advance(t.what, t.done, t.total, t.note),
        )
    show_measurements(records, reference, split)


def check_split(task: Any, split: str) -> None:
    """Refuses a split that nothing is of, or nothing as long as the task's longest, before
    anything is trained or written."""
    for drawn in ("train", split):
        task.prompts(drawn, 0, 1)
    task.of_length(split, 0, 1, task.longest)


# What --committed leaves no choice in.
FIXED = ("objective", "scale", "seeds", "graph", "settings")


@app.command()
def sweep(
    context: typer.Context,
    task: TaskName,
    objective: Annotated[
        str, typer.Option(help="One or more, separated by commas: gpt,mtp,jtp,nextlat,bst.")
    ] = "gpt,mtp,jtp,nextlat",
    scale: Scale = "laptop",
    seeds: Annotated[
        int, typer.Option(min=1, max=10_000, help="Seeds 0 to N - 1 of every cell.")
    ] = 3,
    streets: Streets = None,
    graph: Annotated[
        str | None, typer.Option(metavar="DxL[,DxL]", help="Path-Star's graphs: 2x5,3x4.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PART.FIELD=VALUE[,VALUE]",
            help="Each value makes cells of its own; objectives without the field are unchanged.",
        ),
    ] = None,
    out: Out = Path("runs"),
    device: Device = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Runs at a time; default: one per core, or GPU."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: a Ray cluster.")] = "local",
    probes: Probes = None,
    split: Split = "test",
    committed: Annotated[
        bool,
        typer.Option(
            "--committed",
            help="The runs of TASK's committed records, all of them; their map: --streets.",
        ),
    ] = False,
) -> None:
    """Trains and probes every cell of a table, as many runs at a time as there are cores or GPUs.

    What the training will take is said first. Killed at any moment, the same command skips what is
    finished and goes on with what is not. Two of them over the same folder share the work.

    Example: nextlat-bench sweep path_star --objective gpt,nextlat --graph 2x5,3x4 --seeds 5

    Example: nextlat-bench sweep taxi --seeds 1 --set training.learning_rate=0.001,0.003
    --split validation --probes trajectories

    Example: nextlat-bench sweep a5 --committed
    """
    from nextlat_bench import parallel, registry
    from nextlat_bench.device import chosen_device
    from nextlat_bench.job import Asked, How
    from nextlat_bench.sweep import Local, Sweep, cores, visible_gpus

    if parallel.begun() > 1:  # its jobs would take each other for processes of one training
        raise ValueError("a sweep begins processes of its own: start it without torchrun")
    registry.check_name("engine", engine, ["local", "ray"])
    if engine == "local":  # the nodes of a cluster may have what this machine lacks
        device = chosen_device(device)
    if committed:
        from nextlat_bench.presets._committed import committed_runs

        for option in context.command.params:
            given = context.get_parameter_source(option.name or "")
            if option.name in FIXED and given is not None and given.name != "DEFAULT":
                why = "not allowed, since --committed already fixes it"
                raise ValueError(f"{option.opts[0]}: {why}")
        runs = committed_runs(task, streets)
    else:
        runs = cells(task, objective, scale, seeds, streets, graph, settings)
    only = only_these(probes, task)
    for each in {json.dumps(run.to_json()["task"]): run.task for run in runs}.values():
        check_split(each, split)
    how, asked = How(device, threads=1), Asked(split, only)
    if engine == "ray":
        from nextlat_bench.ray_engine import OnRay

        cluster = OnRay(how, asked, jobs)
        work = Sweep(runs, out, cluster, cluster.jobs)
    else:
        gpus = visible_gpus() if device == "cuda" else []
        jobs = jobs or len(gpus) or cores()
        if gpus:  # then probes have the cores to themselves
            how = replace(how, threads=max(1, cores() // jobs))
        work = Sweep(runs, out, Local(how, asked, gpus, jobs), jobs)
    screen = console()
    if left := [cell.run for cell in work.cells if not cell.folder.is_done]:
        screen.print(price(left), highlight=False)
    finished = work.run(screen)
    screen.print(work.summary(), highlight=False)
    if not finished:
        failed = [f"{cell.run.id}: {cell.why}" for cell in work.cells if cell.state == "failed"]
        print("\n".join(failed), file=sys.stderr)
        raise typer.Exit(1)
    if split != "train":  # which no table shows
        table = "choices" if split == "validation" else runs[0].task.name
        print(f"now: nextlat-bench report {table} --records {shlex.quote(str(out))}")


def price(runs: list["Run"]) -> str:
    """What is ahead, in a line. An objective whose arithmetic cannot be counted is trained too."""
    from nextlat_bench.plan import sweep_line

    try:
        return sweep_line(runs)
    except Exception as error:  # of somebody's own objective; its cells will say it, too
        return f"what they take was not counted: {error}"


def only_these(probes: str | None, task: str) -> list[str] | None:
    """The names asked for, None for all; an unknown one is refused before anything is written."""
    from nextlat_bench.measure import chosen_probes

    only = listed(probes) if probes else None
    chosen_probes(task, "smoke", only)
    return only


def listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def cells(
    task: str,
    objective: str,
    scale: str,
    seeds: int,
    streets: str | None = None,
    graph: str | None = None,
    settings: list[str] | None = None,
) -> list["Run"]:
    """The runs of a sweep, from its options as they are written."""
    return [
        preset(task, name, scale, seed, list(values), streets=streets, graph=star)
        for name, values in grid(listed(objective), settings or [])
        for star in ([None] if graph is None else listed(graph))
        for seed in range(seeds)
    ]


def grid(objectives: list[str], settings: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(objective, settings) of every cell: each value of each setting with each of the others."""
    from dataclasses import fields

    from nextlat_bench import registry

    known = {
        name: {f"objective.{f.name}" for f in fields(registry.load("objectives", name))}
        for name in objectives
    }
    everywhere = set().union(*known.values())
    paths = [setting.partition("=")[0] for setting in settings]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"--set {path} is there twice: write {path}=VALUE,VALUE")
        part, _, field = path.partition(".")
        if part == "objective" and "." not in field and path not in everywhere:
            fields_there = sorted(name.partition(".")[2] for name in everywhere)
            registry.check_name(f"field of {' and '.join(objectives)}", field, fields_there)
    for name in objectives:
        choices = []
        for setting in settings:
            path, equals, values = setting.partition("=")
            if path in everywhere - known[name]:
                continue
            choices.append([f"{path}{equals}{value}" for value in values.split(",")])
        for chosen in product(*choices):
            yield name, chosen


@app.command()
def probe(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN_DIR|SUBJECT] [PROBE]...",
            help="A run folder or e.g. oracle, unless --model says which; probes: the preset's.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|MODULE:FUNCTION",
            help="A Hugging Face folder, an exported model, or a callable: tokens to logits.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task of a known subject, or of --model; default: taxi.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Scale of that task: smoke, laptop (default) or paper.")
    ] = None,
    streets: Streets = None,
    graph: Graph = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="Where its folder is made; default: runs.")
    ] = None,
    device: Device = None,
    split: Split = "test",
) -> None:
    """Probes a finished run, a subject whose answer is known (oracle, uniform, ...), or any model.

    What was measured already is not measured again, unless the code of a probe, task or function
    of your own has changed. Where that reads data or weights, give another --out when they change.

    Example: nextlat-bench probe runs/taxi-nextlat-laptop-s0-1f2e3d4c compression

    Example: nextlat-bench probe --model my_hf_folder --task taxi compression
    """
    from nextlat_bench.export import is_exported
    from nextlat_bench.job import Asked, measure_known, measure_model, measure_run
    from nextlat_bench.known import KNOWN
    from nextlat_bench.run_dir import RunDir
    from nextlat_bench.taggers import OF_WORDS

    known, probes = KNOWN | OF_WORDS, words or []
    given: dict[str, Any] = {"--task": task, "--scale": scale, "--streets": streets}
    given |= {"--graph": graph, "--set": settings}

    def refuse(what: str, options: dict[str, Any]) -> None:
        if extra := [name for name, value in options.items() if value]:
            raise ValueError(f"{extra[0]}: not allowed, since {what} already fixes it")

    def chosen_task() -> "Run":
        name, size = task or "taxi", scale or "laptop"
        return preset(name, "gpt", size, 0, settings, streets=streets, graph=graph)

    where = out or Path("runs")
    if model is None and not probes:
        raise ValueError("nothing to probe: expected RUN_DIR, SUBJECT or --model PATH")
    with progress_bars(console()) as advance:

        def listen(tick: Any) -> None:
            advance(tick.what, tick.done, tick.total, tick.note)

        if model is not None:
            if is_exported(model):  # --task may be said, and is compared
                refuse(model, {name: v for name, v in given.items() if name != "--task"})
            records = measure_model(
                model, chosen_task(), where, Asked(split, probes), device, listen
            )
        elif (subject := probes.pop(0)) in known:
            if device is not None:
                raise ValueError(f"--device {device}: {subject} is not a network")
            records = measure_known(subject, chosen_task(), where, Asked(split, probes), listen)
        else:
            folder = RunDir(subject)
            if not folder.path.is_dir():
                raise ValueError(
                    f"{subject} is neither a run folder nor a known subject ({', '.join(known)})"
                )
            refuse(subject, given | {"--out": out})
            chosen = folder.run()
            with folder.lock():
                records = measure_run(folder, chosen, Asked(split, probes), device, listen)
    show_measurements(records, [], split)


@app.command()
def plan(
    task: TaskName,
    objective: Objective = "nextlat",
    scale: Scale = "paper",
    streets: Streets = None,
    graph: Graph = None,
    settings: Settings = None,
    gpu: Annotated[
        str | None, typer.Option(help="Also estimate for this GPU: a100, h100, rtx4090, ...")
    ] = None,
) -> None:
    """Says what a run would take, without starting it: parameters, tokens, FLOPs, memory, time.

    The time on this machine is measured, by a few steps on as many examples as seconds allow, where
    the weights take no more than a quarter of the memory and the data are at hand.

    Example: nextlat-bench plan taxi --scale paper --gpu h100
    """
    from nextlat_bench.plan import plan_view

    chosen = preset(task, objective, scale, 0, settings, streets=streets, graph=graph)
    console().print(plan_view(chosen, gpu))


def show_measurements(records: list[Any], reference: list[Any], split: str) -> None:
    from nextlat_bench.report.view import measurements_view

    console().print(measurements_view(records, reference, split))
