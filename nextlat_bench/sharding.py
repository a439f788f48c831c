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

__all__ = ["check", "clip", "cut", "here", "is_sharded", "shard", "step_singly", "whole"]


def check(training: Training) -> None:
    """Sharding has a point for several processes, and AdamW alone acts on parts of a matrix."""
    if parallel.begun() == 1:
        raise ValueError("--shard spreads a model over processes: start them with torchrun")
    if training.optimizer != "adamw":
        raise ValueError(
            f"Training.optimizer = {training.optimizer!r}: --shard takes adamw, since Muon needs "
            "whole matrices; add --set training.optimizer=adamw"
        )


def shard(blocks: Iterable[nn.Module], device: str) -> None:
    """Leaves a part of each block's weights in this process, on its `device`."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (parallel.size(),))
    for block in blocks:  # a root each, which by default would stay whole until the backward pass
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def whole(value: Any) -> Any:
    """A state (nested dicts and lists) with every tensor whole, of sharded ones in process 0's
    memory alone. All processes must call it."""
    if isinstance(value, Tensor):
        if not is_sharded(value):
            return value
        full: Tensor = value.full_tensor()  # type: ignore[attr-defined]
        return None if parallel.rank() else full.cpu()
    if isinstance(value, dict):
        return {name: whole(part) for name, part in value.items()}
    if isinstance(value, list):
        return [whole(part) for part in value]
    return value


def cut(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Cuts the moments in a saved state, which are whole, as the weights are cut, if they are."""
    weights: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]
    sharded = {i: state for i, state in saved["state"].items() if is_sharded(weights[i])}
    if not sharded:
        return
    from torch.distributed.tensor import distribute_tensor

    for i, state in sharded.items():
        for name, value in state.items():
            if value.shape == weights[i].shape:
                where = weights[i].device_mesh, weights[i].placements
                state[name] = distribute_tensor(value, *where)


def step_singly(optimizer: torch.optim.Optimizer) -> None:
    """Fused steps take no mixture of whole and sharded tensors."""
    for group in optimizer.param_groups:
        group["fused"] = group["foreach"] = False


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
