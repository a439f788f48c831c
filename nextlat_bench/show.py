"""Views of one run: what a folder holds, and what a run that is not begun would take."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextlat_bench.console import clock
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, read_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["cost", "draw_map", "plan_view", "run_view"]

ADAM_BYTES = 4 + 4 + 8  # a weight, its gradient and two moments, float32


def facts_table(title: str, facts: dict[str, str]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=title, show_header=False, box=SIMPLE, title_justify="left")
    for name, fact in facts.items():
        table.add_row(name, fact)
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
        kinds = {"device": str, "threads": int, "precision": str, "versions": dict, "python": str}
        made = read_json(folder.provenance, **kinds)
        facts["made on"] = f"{made['device']}, {made['threads']} threads, {made['precision']}"
        facts["made with"] = settings(made["versions"]) + f", python {made['python']}"
        facts["commit"] = str(made.get("commit"))
    rows = folder.metric_rows()
    if rows:
        facts["last logged"] = settings(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}
        )
    if folder.is_trained:
        facts["trained"] = settings(read_json(folder.trained))
    states = {True: "done", False: "trained, not all measured" if folder.is_trained else "training"}
    facts["state"] = states[folder.is_done]
    return facts_table(str(folder.path), facts)


def draw_map(folder: RunDir, path: Path) -> None:
    """The street map that a run's traversals imply, as the probe of its scale reconstructs it:
    true edges black, false ones red. A task without streets is a ValueError."""
    import numpy as np

    from nextlat_bench.measure import chosen_probes
    from nextlat_bench.probes.map_reconstruction import MapReconstruction, draw
    from nextlat_bench.subject import load

    run = folder.run()
    if run.task.name != "taxi":
        raise ValueError(f"--map {path}: {run.task.name} has no street map")
    (probe,) = chosen_probes(run.task.name, run.scale, [MapReconstruction.name])
    assert isinstance(probe, MapReconstruction)
    rng = np.random.default_rng(run.seed)
    _, found = probe.reconstruction(load(folder.path), run.task, rng)
    draw(found, run.task.map, path, title=f"{run.objective.name}, seed {run.seed}")


def cost(run: Run) -> dict[str, float]:
    """What a run takes, counted on weights that are never made.

    parameters, decoder_parameters; tokens_per_step (used ones, of a sample); flops_per_step
    (6 per weight and token, and 12 T D per layer and token for attention: Kaplan et al. 2020,
    Appendix B of PaLM); weight_bytes (weights, gradients and optimiser state in float32).
    """
    import torch

    from nextlat_bench.data import step_batches
    from nextlat_bench.decoder import count_parameters
    from nextlat_bench.train import Model

    with torch.device("meta"):
        model = Model(run)
    training = run.training
    batches = step_batches(run.task, 0, min(training.examples, 1024), training.row_length, 1)
    share = training.examples / min(training.examples, 1024)
    slots = sum(batch.tokens.numel() for batch in batches) * share
    tokens = sum(int((batch.document >= 0).sum()) for batch in batches) * share
    decoder, extra = count_parameters(model.decoder), count_parameters(model.extra)
    applied = getattr(run.objective, "horizon", 1)
    extra_uses = extra * (1 if run.objective.name == "mtp" else applied)  # its heads: one a step
    multiplied = count_parameters(model.decoder, embeddings=False) + extra_uses
    head = len(run.task.vocab) * run.decoder.width
    row_length = training.row_length or run.task.max_length
    attention = 12 * run.decoder.layers * row_length * run.decoder.width
    return {
        "parameters": decoder + extra,
        "decoder_parameters": decoder,
        "tokens_per_step": tokens,
        "positions_per_step": slots,
        "flops_per_step": slots * (6 * (multiplied + head) + attention),
        "weight_bytes": ADAM_BYTES * (decoder + extra),
    }


def matrix_rate() -> float:
    """Floating-point operations a second of this machine's matrix products, bf16 where native."""
    import torch

    from nextlat_bench.train import native_bf16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if native_bf16(device) else torch.float32
    a = torch.randn(2048, 2048, dtype=kind, device=device)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        (a @ a).sum().item()
        times.append(time.perf_counter() - begin)
    return float(2 * 2048**3 / min(times))


def plan_view(run: Run) -> "Table":
    """The cost of a run, and how long its arithmetic alone would take here."""
    counted = cost(run)
    steps = run.training.steps
    total, rate = counted["flops_per_step"] * steps, matrix_rate()
    fill = counted["tokens_per_step"] / counted["positions_per_step"]
    decoder = asdict(run.decoder)
    return facts_table(
        f"{run.task.name}, {run.objective.name}, {run.scale} scale",
        {
            "decoder": settings(decoder),
            "parameters": f"{counted['parameters']:,} ({counted['decoder_parameters']:,} of them "
            "the decoder's)",
            "steps": f"{steps:,}",
            "tokens": f"{counted['tokens_per_step']:,.0f} a step, "
            f"{counted['tokens_per_step'] * steps:.3g} in all ({fill:.0%} of the positions)",
            "weights, gradients, moments": f"{counted['weight_bytes'] / 2**30:.2f} GiB",
            "arithmetic": f"{counted['flops_per_step']:.3g} FLOPs a step, {total:.3g} in all",
            "at least, here": f"{duration(total / rate)} at this machine's "
            f"{rate / 1e9:,.0f} GFLOP/s of matrix products",
        },
    )


def duration(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:,.1f} days" if days >= 2 else clock(seconds) + " (h:mm:ss or m:ss)"


def other_entries(kind: str) -> list[tuple[str, str]]:
    """Names and lines of what `list` shows that is not a plugin: tables, subjects, streets."""
    if kind == "tables":
        from nextlat_bench.report import tables

        return [(name, tables.LAYOUTS[name].title) for name in tables.names()]
    if kind == "subjects":
        from nextlat_bench.subject import KNOWN
        from nextlat_bench.taggers import OF_WORDS

        known = OF_WORDS | KNOWN
        return [(name, (make.__doc__ or "").partition("\n")[0]) for name, make in known.items()]
    from nextlat_bench.tasks._street_files import embedded_names
    from nextlat_bench.tasks.taxi import StreetMap

    return [(name, StreetMap.load(name).describe()) for name in embedded_names()]
