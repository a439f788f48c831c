"""Where a training step's time goes, by kind of operation, as PyTorch's profiler sees it.

One thread, the steps of `benchmarks.training`, run in this thread, which alone is profiled. The
matrix products' own rate is what they compute over the time they take; all else is time in which
nothing is multiplied.
"""

from collections import defaultdict
from collections.abc import Callable

import torch

from benchmarks._core import Section, one_thread
from benchmarks.peers import Shape
from benchmarks.training import SHAPES, as_batch, matrix_flops, matrix_rates, stream, walks
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives._core import Objective
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.provenance import chosen_precision
from nextlat_bench.run import DecoderConfig, Training
from nextlat_bench.train import Workers, clip

__all__ = ["run"]

STEPS, WARM = 5, 3
PRODUCTS = "matrix products"
REST = "the rest, Python and PyTorch's own bookkeeping"
# kind -> PyTorch's operations, after "aten::"; those with _backward or _ at their end besides
KINDS = {
    PRODUCTS: "mm bmm addmm baddbmm",
    "elementwise": "mul add sub div neg exp pow square clamp rsqrt silu gelu addcmul masked_fill",
    "softmax": "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data",
    "casts and copies": "copy cat stack fill zero",
    "rows by their index": "index index_select index_add scatter_add embedding nonzero _unique2 "
    "embedding_dense _index_put_impl gather",
    "sums and norms": "sum mean dot linalg_vector_norm",
    "optimiser": "_fused_adamw",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


def profiled(objective: Objective, shape: Shape, vocab: int) -> dict[str, float]:
    """Seconds of a step by kind."""
    config = DecoderConfig(layers=shape.layers, heads=shape.heads, width=shape.width)
    model = torch.nn.Module()
    model.decoder = Decoder(config, vocab, shape.length)
    model.extra = objective.init(config)
    training = Training(steps=1, examples=shape.batch, clip=1.0)
    optimizers = make_optimizers(training, model)
    workers = Workers(1, torch.get_num_threads(), "cpu", chosen_precision(training, "cpu"))
    batch = as_batch(stream(walks(), shape.batch, shape.length))
    parameters = list(model.parameters())

    def step() -> None:
        total = workers.losses(objective, model, batch).total  # type: ignore[arg-type]
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        clip(model, training.clip)  # type: ignore[arg-type]
        for optimizer in optimizers:
            optimizer.step()

    return by_kind(step)


def by_kind(step: Callable[[], None]) -> dict[str, float]:
    for _ in range(WARM):
        step()
    with torch.profiler.profile() as seen:
        for _ in range(STEPS):
            step()
    seconds: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::").removesuffix("_").removesuffix("_backward")
        kind = KIND_OF.get(name, REST)
        seconds[kind] += event.self_cpu_time_total / 1e6 / STEPS
    return {kind: seconds[kind] for kind in (*KINDS, REST)}


def run() -> list[Section]:
    torch.manual_seed(0)
    vocab = len(walks().vocab)
    sections = []
    with one_thread():
        limit = matrix_rates()[chosen_precision(Training(steps=1, examples=1), "cpu")]
        for shape in SHAPES:
            sides = {"GPT": profiled(GPT(), shape, vocab)}
            sides |= {f"NextLat d={d}": profiled(NextLat(horizon=d), shape, vocab) for d in (1, 8)}
            sections.append(shares(shape, sides, limit, vocab))
    return sections


def shares(shape: Shape, sides: dict[str, dict[str, float]], limit: float, vocab: int) -> Section:
    """A row a kind; under them, at what share of the limit (GFLOP/s) the products run."""
    table = Section(f"A training step's time: {shape}", ["kind of operation", *sides])
    for kind in (*KINDS, REST):
        table.add(kind, *(f"{s[kind] / sum(s.values()):.0%}" for s in sides.values()))
    horizons = {name: int(name.partition("d=")[2] or 0) for name in sides}
    rates = [
        matrix_flops(horizons[name], shape, vocab) / seconds[PRODUCTS] / 1e9 / limit
        for name, seconds in sides.items()
    ]
    table.add("the products' rate, of the machine's limit", *(f"{rate:.0%}" for rate in rates))
    table.facts = {name: dict(seconds) for name, seconds in sides.items()}
    table.notes.append(f"{STEPS} steps under the profiler, after {WARM} without it.")
    return table
