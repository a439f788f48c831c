"""Views of one run folder, and of what there is beside plugins."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextlat_bench.files import visible
from nextlat_bench.run_dir import RunDir, RunDirError, read_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["check_map", "draw_map", "facts_table", "other_entries", "run_view", "settings"]


def facts_table(title: str, facts: dict[str, str]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(title=visible(title), show_header=False, box=SIMPLE, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")  # a digest is copied whole
    for name, fact in facts.items():
        table.add_row(name, Text(visible(fact)))  # a plain string's `:ring:` would become a picture
    return table


def settings(parameters: dict[str, Any]) -> str:
    """Parameters on one line; a nested one by its source or its values."""
    shown = {
        name: value.get("source", value) if isinstance(value, dict) else value
        for name, value in parameters.items()
        if value is not None
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items()) or "no parameters"


def run_view(folder: RunDir) -> "Table":
    """Everything about a run folder but its measurements."""
    run = folder.run_facts()
    facts = {
        "task": f"{run['task']['name']}: {settings(run['task']['parameters'])}",
        "objective": f"{run['objective']['name']}: {settings(run['objective']['parameters'])}",
        "decoder": settings(run["decoder"]),
        "training": settings(run["training"]),
        "seed": str(run["seed"]),
        "scale": run["scale"],
    }
    if folder.provenance.exists():
        facts |= made(folder)
    rows = folder.metric_rows()
    if rows:
        facts["last logged"] = settings(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}
        )
    if folder.is_trained:
        facts["trained"] = settings(read_json(folder.trained))
    facts["state"] = state(folder)
    return facts_table(str(folder.path), facts)


def state(folder: RunDir) -> str:
    """How far a run is, and whether anybody is at work on it."""
    if folder.is_done:
        return "done" if folder.model.exists() else f"done, but without {folder.model.name}"
    if folder.in_use:
        return "being measured" if folder.is_trained else "being trained"
    if folder.is_trained:
        return "trained, not all measured; the same command measures the rest"
    if saved := folder.saved():
        return f"stopped; the same command goes on from step {int(saved[-1].name)}"
    return "not begun"


def made(folder: RunDir) -> dict[str, str]:
    """Where and with what; that this is not known hides nothing else of a run."""
    kinds = {"device": str, "threads": int, "precision": str, "versions": dict, "python": str}
    try:
        facts = read_json(folder.provenance, **kinds)
    except RunDirError:
        return {"made on": f"not known: {folder.provenance.name} is damaged"}
    folder.check_same_run(facts)
    return {
        "made on": f"{facts['device']}, {facts['threads']} threads, {facts['precision']}",
        "made with": f"{settings(facts['versions'])}, python {facts['python']}",
        "commit": str(facts.get("commit")),
    }


def check_map(folder: RunDir, path: Path) -> None:
    """Refuses a map of a task without streets, or of a name that is no picture's."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"--map {path}: expected a name that ends in .png")
    task = folder.run_facts()["task"]["name"]
    if task != "taxi":
        raise ValueError(f"--map {path}: {task} has no street map")


def draw_map(folder: RunDir, path: Path) -> None:
    """The street map that a run's traversals imply, as the probe of its scale reconstructs it:
    true edges black, false ones red."""
    import numpy as np

    from nextlat_bench.measure import chosen_probes
    from nextlat_bench.probes.map_reconstruction import MapReconstruction, draw
    from nextlat_bench.subject import load

    run = folder.run()
    (probe,) = chosen_probes(run.task.name, run.scale, [MapReconstruction.name])
    assert isinstance(probe, MapReconstruction)
    rng = np.random.default_rng(run.seed)
    _, found = probe.reconstruction(load(folder.path), run.task, rng)
    draw(found, run.task.map, path, title=f"{run.objective.name}, seed {run.seed}")


def other_entries(kind: str) -> list[tuple[str, str]]:
    """Names and lines of what `list` shows that is not a plugin: tables, subjects, streets."""
    if kind == "tables":
        from nextlat_bench.report.contents import titles

        return list(titles().items())
    if kind == "subjects":
        from nextlat_bench.known import KNOWN
        from nextlat_bench.taggers import OF_WORDS

        known = OF_WORDS | KNOWN
        return [(name, first_sentence(make.__doc__ or "")) for name, make in known.items()]
    from nextlat_bench.tasks._street_files import embedded_names
    from nextlat_bench.tasks.taxi import StreetMap

    return [(name, StreetMap.load(name).describe()) for name in embedded_names()]


def first_sentence(docstring: str) -> str:
    return " ".join(docstring.split()).partition(". ")[0].rstrip(".")
