"""The weights of a decoder's blocks spread over the processes that train it (FSDP2).

Each process keeps a part of every block's weights, gradients and moments; a block is put together
while it is at work. Embeddings, output head and extra modules stay whole everywhere. Checkpoints
hold whole tensors, so a run may go on with or without, on any number of processes.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nextlat_bench import parallel
from nextlat_bench.run import Training

__all__ = ["check", "clip", "here", "is_sharded", "shard", "spread", "whole"]


def check(training: Training) -> None:
    """Sharding has a point for several processes, and AdamW alone acts on parts of a matrix."""
    if parallel.begun() == 1:
        raise ValueError("--shard spreads a model over processes: start them with torchrun")
    if training.optimizer != "adamw":
        raise ValueError(
            f"Training.optimizer = {training.optimizer!r}: --shard takes adamw, since Muon needs "
            "whole matrices; add --set training.optimizer=adamw"
        )


def shard(blocks: Iterable[nn.Module]) -> None:
    """Leaves a part of each block's weights in this process."""
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block)


def whole(value: Any) -> Any:
    """A state (nested dicts and lists) with every tensor whole. All processes must call it."""
    if isinstance(value, Tensor):
        return value.full_tensor() if is_sharded(value) else value  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return {name: whole(part) for name, part in value.items()}
    if isinstance(value, list):
        return [whole(part) for part in value]
    return value


def spread(optimizer: torch.optim.Optimizer) -> None:
    """Cuts the moments of sharded weights as these are cut; steps tensor by tensor, since fused
    steps take no mixture of whole and sharded ones."""
    from torch.distributed.tensor import distribute_tensor

    for group in optimizer.param_groups:
        group["fused"] = group["foreach"] = False
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if is_sharded(parameter) and value.shape == parameter.shape:
                cut: Any = parameter  # a DTensor
                state[name] = distribute_tensor(value, cut.device_mesh, cut.placements)


def here(tensor: Tensor) -> Tensor:
    """The part of a tensor that is in this process."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, whose module is not to be loaded where nothing is sharded."""
    return hasattr(tensor, "full_tensor")


def clip(gradients: list[Tensor], largest: float | None) -> float:
    """As `torch.nn.utils.clip_grad_norm_`, where some gradients are sharded."""
    squares = {True: 0.0, False: 0.0}  # of sharded gradients, of whole ones
    for gradient in gradients:
        squares[is_sharded(gradient)] += float(here(gradient).square().sum())
    sharded = parallel.total(squares[True], gradients[0].device.type)
    norm = float((sharded + squares[False]) ** 0.5)
    if largest is not None and norm > largest:
        for gradient in gradients:
            gradient.mul_(largest / (norm + 1e-6))
    return norm
