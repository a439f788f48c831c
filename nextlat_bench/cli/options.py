"""What the verbs share: the program, its options, and the run that they name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nextlat_bench.run import Run

__all__ = ["app", "preset"]

app = typer.Typer(
    name="nextlat-bench",
    help="Did this sequence model learn the world behind its data, or a pile of shortcuts?\n\n"
    "Start with: nextlat-bench run taxi --objective nextlat",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"nextlat-bench {version('nextlat-bench')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=tell_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK", help="taxi, path_star, countdown, a5, language or package.module:Class."
    ),
]
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
Objective = Annotated[
    str,
    typer.Option(
        help="gpt, mtp, jtp, nextlat, noisy_nextlat, stationary_nextlat, closed_nextlat, bst, gru "
        "or package.module:Class."
    ),
]
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


Probes = Annotated[
    str | None, typer.Option(metavar="PROBE[,PROBE]", help="Only these; default: the preset's.")
]
Split = Annotated[
    str,
    typer.Option(
        callback=known_split,
        help="Split to probe: test, validation to choose settings, or train.",
    ),
]


def for_all_libraries(threads: int | None) -> int | None:
    """Training counts its threads itself; probes' linear algebra asks the environment, once."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        is_eager=True,  # before another option loads numpy
        callback=for_all_libraries,
        help="CPU threads; default: all cores.",
    ),
]


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

    registry.find("tasks", task)
    registry.find("objectives", objective)
    registry.check_name("scale", scale, list(SCALES))
    from nextlat_bench.presets._general import run_of  # slow, and not needed for what is refused

    kind = registry.load("tasks", task)
    make = run_of(kind)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - inspect.signature(make).parameters:
        raise ValueError(f"--{name} is not for {task}")
    run = make(objective, scale, seed, **given)
    if type(run.task) is not kind:
        raise ValueError(f"the preset {kind.name} is of another task than {task}: rename one")
    return run.override(settings or [])
