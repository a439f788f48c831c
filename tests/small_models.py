"""Small decoders and batches, and slow loops over documents, for the tests of objectives."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nextlat_bench import registry
from nextlat_bench.data import TensorBatch, pack, to_tensors
from nextlat_bench.objectives._core import Objective
from nextlat_bench.presets import taxi as preset
from nextlat_bench.run import DecoderConfig, Run
from nextlat_bench.tasks._core import Batch

# the objectives that train on taxi: the other needs an answer at each position
ON_TAXI = [name for name in registry.names("objectives") if name != "closed_nextlat"]
V, PAD, END = 12, 10, 11
CONFIG = DecoderConfig(layers=2, heads=2, width=16)


M = TypeVar("M", bound=nn.Module)


def noisy(module: M, seed: int) -> M:
    """Away from the initial values, where too much is zero or one."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module


def initialised(objective: Objective) -> nn.Module:
    torch.manual_seed(1)
    return noisy(objective.init(CONFIG, END), 1)


def made_batch(packed: bool) -> TensorBatch:
    """Documents of 2 to 7 tokens; the first two of each are prompt; the last predicts nothing."""
    rng = np.random.default_rng(3)
    lengths = np.array([7, 5, 6, 3, 4, 2])
    tokens = np.full((6, 7), PAD)
    for row, length in enumerate(lengths):
        tokens[row, :length] = rng.integers(PAD, size=length)
    targets = np.full_like(tokens, -1)
    targets[:, 1:-1] = np.where(tokens[:, 2:] == PAD, -1, tokens[:, 2:])
    batch = Batch.of_sequences(tokens, targets, PAD)
    return to_tensors(pack(batch, 13) if packed else batch, packed)


def documents(batch: TensorBatch) -> Iterator[tuple[int, list[int]]]:
    """(row, columns) of every document of a batch."""
    for row in range(len(batch.tokens)):
        ids = batch.document[row].tolist()
        for document in sorted({i for i in ids if i >= 0}):
            yield row, [t for t, i in enumerate(ids) if i == document]


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.tensor(0.0)


def cross_entropy(logits: Tensor, target: int) -> Tensor:
    return -logits.log_softmax(-1)[target]


def slow_next_token(logits: Tensor, batch: TensorBatch) -> Tensor:
    """`logits`: (B, T, V)."""
    return mean(
        [
            cross_entropy(logits[row, t], int(batch.targets[row, t]))
            for row, columns in documents(batch)
            for t in columns
            if batch.targets[row, t] >= 0
        ]
    )


TINY = [
    "training.steps=24",
    "training.examples=32",
    "decoder.layers=1",
    "decoder.width=32",
    "task.max_nodes=8",
    "training.row_length=20",
]


def tiny(*settings: str, objective: str = "nextlat", seed: int = 0) -> Run:
    return preset.run(objective, "smoke", seed).override([*TINY, *settings])
