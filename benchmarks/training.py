"""Milliseconds of a training step, ours and peers', on the same tokens, one thread, in one run.

Every side has the same sizes (its parameters are printed), batch and optimiser (fused AdamW,
gradients clipped to 1); all read one matrix of tokens, so their losses after as many steps say that
they do the same work (but for one position in T + 1: see `benchmarks.peers`). Ours runs as the
trainer runs it: bf16 where the processor has it. Each peer runs in fp32, which is its default, and
under bf16 autocast, where the user thinks of it and the processor has it: emulated, it takes hours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks._core import Section, alternate, one_thread, ratio, shown, spread
from benchmarks.peers import Shape
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder, count_parameters, swiglu_width
from nextlat_bench.device import chosen_precision
from nextlat_bench.objectives._core import Objective
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.run import DecoderConfig, Training
from nextlat_bench.tasks.taxi import Taxi
from nextlat_bench.train import clip
from nextlat_bench.workers import Workers

__all__ = ["as_batch", "matrix_flops", "matrix_rates", "ours", "run", "stream"]
__all__ += ["trainer_step", "walks"]

SHAPES = (Shape(4, 4, 128, 128, 64), Shape(6, 8, 256, 64, 68), Shape(2, 4, 128, 256, 12))
ROUNDS, CALLS = 5, 2
FINER = 6  # calls of ours alone: a few per cent are told only by steps that follow each other
Step = Callable[[], Tensor]


def walks() -> Taxi:
    """Whose walks are the text that every side reads."""
    return Taxi(radius=600.0, max_nodes=24, max_path=12, max_new=24)


def stream(task: Taxi, rows: int, length: int) -> Tensor:
    """(rows, length + 1) tokens of random walks end to end."""
    batch = task.sample("train", 0, rows * length // task.min_nodes)
    tokens = torch.from_numpy(batch.tokens[batch.document >= 0]).long()
    return tokens[: rows * (length + 1)].view(rows, length + 1)


def as_batch(tokens: Tensor) -> TensorBatch:
    """(B, T + 1) tokens -> one document a row, every position scored."""
    inputs = tokens[:, :-1].contiguous()
    return TensorBatch(
        tokens=inputs,
        targets=tokens[:, 1:].contiguous(),
        document=torch.zeros_like(inputs),
        position=torch.arange(inputs.shape[1]).expand_as(inputs),
        scored=torch.arange(inputs.numel()),
        packed=False,
    )


def ours(
    objective: Objective, shape: Shape, tokens: Tensor, vocab: int, optimizer: str = "adamw"
) -> tuple[nn.Module, Step]:
    """The trainer's own step on (B, T + 1) tokens."""
    config = DecoderConfig(layers=shape.layers, heads=shape.heads, width=shape.width)
    model: Any = nn.Module()
    model.decoder = Decoder(config, vocab, shape.length)
    model.extra = objective.init(config)
    training = Training(steps=1, examples=shape.batch, optimizer=optimizer, clip=1.0)  # type: ignore[arg-type]
    return model, trainer_step(objective, model, training, [as_batch(tokens)])


def trainer_step(
    objective: Objective, model: Any, training: Training, batches: list[TensorBatch]
) -> Step:
    """A step on these micro-batches, one after the other; it returns the first one's loss."""
    optimizers = make_optimizers(training, model)
    workers = Workers(1, torch.get_num_threads(), "cpu", chosen_precision(training, "cpu"))

    def step() -> Tensor:
        losses = workers.gradients(objective, model, batches)
        clip(model, training.clip)
        workers.update(optimizers, 1.0)
        return losses[0].total.detach()

    return step


@dataclass
class Side:
    """One row of a table. `horizon` 0: next-token prediction alone."""

    name: str
    horizon: int
    precision: str
    ours: bool
    model: nn.Module
    step: Step
    loss: float = math.nan  # of the last step

    def __call__(self) -> None:
        self.loss = float(self.step())

    @property
    def reference(self) -> str:
        """What its time is compared with: for ours GPT, for a peer ours that does its work."""
        return "GPT" if self.ours or not self.horizon else f"NextLat d={self.horizon}"


def sides_of(shape: Shape, tokens: Tensor, vocab: int) -> list[Side]:
    native = chosen_precision(Training(steps=1, examples=1), "cpu")
    sides = [Side("GPT", 0, native, True, *ours(GPT(), shape, tokens, vocab))]
    for d in (1, 2, 8):
        made = ours(NextLat(horizon=d), shape, tokens, vocab)
        sides.append(Side(f"NextLat d={d}", d, native, True, *made))
    made = ours(NextLat(), shape, tokens, vocab, "muon")
    sides.append(Side("NextLat d=1, Muon", 1, native, True, *made))
    builders: dict[str, tuple[int, Callable[[], tuple[nn.Module, peers.Loss]]]] = {
        "nanoGPT loop": (0, lambda: peers.nano_gpt(shape, vocab)),
        "transformers Llama": (0, lambda: peers.llama(shape, vocab)),
        "x-transformers": (0, lambda: peers.x_transformers(shape, vocab)),
        "x-transformers next-latent d=1": (1, lambda: peers.x_transformers(shape, vocab, 1)),
        "x-transformers next-latent d=8": (8, lambda: peers.x_transformers(shape, vocab, 8)),
    }
    for name, (d, build) in builders.items():
        for precision in dict.fromkeys(("fp32", native)):
            model, loss = build()
            step = peers.training_step(model, loss, tokens, bf16=precision == "bf16")
            sides.append(Side(f"{name}, {precision}", d, precision, False, model, step))
    return sides


def measure(shape: Shape, vocab: int, tokens: Tensor, rates: dict[str, float]) -> Section:
    sides = sides_of(shape, tokens, vocab)
    seconds = alternate({side.name: side for side in sides}, ROUNDS, CALLS)
    losses = {side.name: side.loss for side in sides}
    finer = alternate({side.name: side for side in sides if side.ours}, ROUNDS, FINER)
    table = Section(
        f"Training step: {shape}",
        ["side", "parameters", "loss", "ms a step", "times", "of", "share of the matrix limit"],
        notes=[
            f"Loss: after {ROUNDS * CALLS + 1} steps on the same tokens. Ratios are of medians in "
            f"each of {ROUNDS} rounds: of ours over GPT {FINER} steps of ours alone, by turns, of "
            f"the rest {CALLS} steps of all sides."
        ],
    )
    for side in sides:
        taken = spread(1e3 * s for s in seconds[side.name])
        taken_by = finer if side.ours else seconds
        quotient = ratio(taken_by[side.name], taken_by[side.reference])
        rate = matrix_flops(side.horizon, shape, vocab) / taken[1] / 1e6  # GFLOP/s
        share = rate / rates[side.precision]
        parameters = count_parameters(side.model)
        table.add(
            side.name,
            f"{parameters:,}",
            f"{losses[side.name]:.3f}",
            shown(taken, 0),
            shown(quotient),
            side.reference,
            f"{share:.0%}",
        )
        table.facts[side.name] = {
            "parameters": parameters,
            "loss": losses[side.name],
            "milliseconds": taken,
            "ratio": quotient,
            "ratio_to": side.reference,
            "share_of_matrix_limit": share,
        }
    return table


def matrix_flops(horizon: int, shape: Shape, vocab: int) -> float:
    """FLOPs of the matrix products that a step needs, forward and backward, attention's too.

    The tokens' part of the dynamics' first layer is needed once a token of the vocabulary only.
    """
    D, T = shape.width, shape.length
    block = 4 * D * D + 3 * D * swiglu_width(D) + 2 * T * D  # products of scores and values: 2TD
    dynamics = 3 * D * D + vocab * D * 2 / 3  # the frozen head has no gradient of its own
    pairs = sum(T - i for i in range(1, horizon + 1)) / T  # a position
    products = shape.layers * block + vocab * D + pairs * dynamics
    return 6.0 * shape.batch * T * products


def matrix_rates() -> dict[str, float]:
    """GFLOP/s of a square matrix product on the threads in use: the machine's own limit."""
    size, rates = 1024, {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        taken = alternate({"product": lambda a=a, b=b: a @ b}, 30)["product"]  # type: ignore[misc]
        rates[name] = 2 * size**3 / spread(taken)[1] / 1e9
    return rates


def run() -> list[Section]:
    torch.manual_seed(0)
    task = walks()
    with one_thread():
        rates = matrix_rates()
        limit = Section("Matrix products of 1024 x 1024 on one thread", ["precision", "GFLOP/s"])
        limit.rows = [[name, f"{rate:,.0f}"] for name, rate in rates.items()]
        limit.facts = dict(rates)
        limit.notes.append("The limit against which the shares below are taken.")
        return [limit] + [
            measure(shape, len(task.vocab), stream(task, shape.batch, shape.length), rates)
            for shape in SHAPES
        ]
