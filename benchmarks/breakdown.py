"""Where a training step's time goes, by kind of operation, as PyTorch's profiler sees it.

One thread, the steps of `benchmarks.training`, run in this thread, which alone is profiled. The
matrix products' own rate is what they compute over the time they take; all else is time in which
nothing is multiplied.
"""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks._core import Section, one_thread
from benchmarks.peers import Shape
from benchmarks.training import SHAPES, as_batch, matrix_flops, matrix_rates, ours, stream, walks
from nextlat_bench.device import chosen_precision
from nextlat_bench.objectives._core import Objective
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.run import Training
from nextlat_bench.train import clip
from nextlat_bench.workers import Workers

__all__ = ["run"]

STEPS, WARM = 5, 3
HORIZONS = (0, 1, 8)  # 0: GPT
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


def profiled(objective: Objective, shape: Shape, tokens: Tensor, vocab: int) -> dict[str, float]:
    """Seconds of a step by kind, on (B, T + 1) tokens."""
    model = ours(objective, shape, tokens, vocab)[0]
    training = Training(steps=1, examples=shape.batch, clip=1.0)
    optimizers = make_optimizers(training, model)
    workers = Workers(1, torch.get_num_threads(), "cpu", chosen_precision(training, "cpu"))
    batch = as_batch(tokens)
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


def by_kind(step: Callable[[], object]) -> dict[str, float]:
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
    task = walks()
    with one_thread():
        limit = matrix_rates()[chosen_precision(Training(steps=1, examples=1), "cpu")]
        return [
            shares(shape, stream(task, shape.batch, shape.length), len(task.vocab), limit)
            for shape in SHAPES
        ]


def shares(shape: Shape, tokens: Tensor, vocab: int, limit: float) -> Section:
    """A row a kind; under them, at what share of the limit (GFLOP/s) the products run."""
    objectives = {d: NextLat(horizon=d) if d else GPT() for d in HORIZONS}
    taken = {d: profiled(each, shape, tokens, vocab) for d, each in objectives.items()}
    sides = {f"NextLat d={d}" if d else "GPT": seconds for d, seconds in taken.items()}
    table = Section(f"A training step's time: {shape}", ["kind of operation", *sides])
    for kind in (*KINDS, REST):
        table.add(kind, *(f"{s[kind] / sum(s.values()):.0%}" for s in sides.values()))
    rates = [
        matrix_flops(d, shape, vocab) / seconds[PRODUCTS] / 1e9 / limit
        for d, seconds in taken.items()
    ]
    table.add("the products' rate, of the machine's limit", *(f"{rate:.0%}" for rate in rates))
    table.facts = dict(sides)
    table.notes.append(f"{STEPS} steps under the profiler, after {WARM} without it.")
    return table
