"""The table of training cost: parameters and steps a second of every objective at horizons 1, 2
and 8, in one run.

The trainer's own steps on the language task's batches, one thread: the laptop preset, and a model
nearer to the paper's proportions, where less of a step is vocabulary (without BST, whose step is
as long as one chooses pairs). All sides of a size take turns. What the `paper` preset
would have is counted, on weights that are never made.
"""

from dataclasses import replace

from benchmarks._core import Section, alternate, one_thread, ratio, shown, spread
from benchmarks.training import trainer_step
from nextlat_bench.decoder import count_parameters
from nextlat_bench.model import build
from nextlat_bench.objectives._core import Objective
from nextlat_bench.plan import cost
from nextlat_bench.presets.language import run as preset
from nextlat_bench.report.columns import DASH
from nextlat_bench.report.published import paper_rows
from nextlat_bench.run import DecoderConfig, Run, Training
from nextlat_bench.train import micro_batches_of

__all__ = ["Side", "run", "runs"]

HORIZONS = (1, 2, 8)
WIDE = DecoderConfig(layers=8, heads=8, width=512)
WIDE_EXAMPLES = 8  # a step
ROUNDS, CALLS = 5, 3


class Side:
    """Training steps of one objective, on the batch of the preset's last step."""

    def __init__(self, run: Run) -> None:
        self.run, self.model = run, build(run)
        batches = micro_batches_of(run, run.training.steps - 1, "cpu")
        self.step = trainer_step(run.objective, self.model, run.training, batches)

    def __call__(self) -> None:
        self.step()


def runs(scale: str) -> dict[str, Run]:
    """The preset's run for each objective, at each horizon where it has one; GPT's first."""
    found = {}
    for name in ("gpt", "mtp", "jtp", "nextlat", "bst"):
        run = preset(name, scale)  # type: ignore[arg-type]
        if not hasattr(run.objective, "horizon"):
            found[label(run.objective)] = run
            continue
        for d in HORIZONS:
            objective = replace(run.objective, horizon=d)
            found[label(objective)] = replace(run, objective=objective)
    return found


def label(objective: Objective) -> str:
    d = getattr(objective, "horizon", None)
    return objective.name if d is None else f"{objective.name} d={d}"


def wider(run: Run) -> Run:
    """The same objective on a wider and deeper decoder, with the paper's optimiser."""
    training = Training(steps=1, examples=WIDE_EXAMPLES, learning_rate=4e-4, clip=1.0)
    objective = run.objective
    if hasattr(objective, "dynamics_width"):  # over the decoder's as the paper's is: 6528 of 2048
        objective = replace(objective, dynamics_width=WIDE.width * 51 // 16)
    return replace(run, objective=objective, decoder=WIDE, training=training)


def papers(objective: Objective, key: str) -> float | None:
    """The paper's number of this objective at this horizon. None: it has none."""
    horizon = getattr(objective, "horizon", None)
    rows = paper_rows("cost", objective.name, {})
    return next((row[key] for row in rows if row.get("horizon") == horizon), None)


def measured(title: str, sides: dict[str, Side]) -> Section:
    """Beside the paper's ratios, which are of its own sizes."""
    seconds = alternate(dict(sides), ROUNDS, CALLS)
    gpt = next(iter(sides))
    whole = papers(sides[gpt].run.objective, "steps_per_second")
    columns = ["objective", "parameters", "steps a second", "time over GPT's", "paper's"]
    table = Section(title, columns)
    for name, side in sides.items():
        its = papers(side.run.objective, "steps_per_second")
        beside = whole / its if whole and its else None
        rate, over = spread(1 / s for s in seconds[name]), ratio(seconds[name], seconds[gpt])
        parameters = count_parameters(side.model)
        said = DASH if beside is None else f"{beside:.2f}"
        table.add(name, f"{parameters:,}", shown(rate), shown(over), said)
        table.facts[name] = {
            "parameters": parameters,
            "steps_per_second": rate,
            "ratio": over,
            "paper_ratio": beside,
        }
    return table


def counted() -> Section:
    columns = ["objective", "parameters, billions", "paper's", "FLOPs a step"]
    table = Section("The paper preset, counted", columns)
    for name, run in runs("paper").items():
        facts, its = cost(run), papers(run.objective, "parameters")
        said = DASH if its is None else f"{its:.2f}"
        flops = facts["flops_per_step"]
        table.add(name, f"{facts['parameters'] / 1e9:.2f}", said, f"{flops:.2e}")
        table.facts[name] = {"parameters": facts["parameters"], "flops_per_step": flops}
    return table


def run() -> list[Section]:
    laptop = runs("laptop")
    sizes = {"laptop preset": laptop, "wider": {name: wider(r) for name, r in laptop.items()}}
    del sizes["wider"]["bst"]
    sections = []
    with one_thread():
        for size, its in sizes.items():
            decoder, training = its["gpt"].decoder, its["gpt"].training
            title = (
                f"Language, {size}: {decoder.layers} layers, D {decoder.width}, "
                f"{training.examples} x {its['gpt'].task.max_length} tokens a step, "
                f"{training.optimizer}"
            )
            sections.append(measured(title, {name: Side(r) for name, r in its.items()}))
    return [*sections, counted()]
