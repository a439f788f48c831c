"""One training on several processes: those that torchrun began, or this one alone.

Each process holds the whole model and takes every n-th micro-batch of a step; gradients and losses
are added up over all. With as many micro-batches, n processes and one compute the same sums, so
loss curves agree to rounding and checkpoints of either load in the other.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["add_gradients", "begun", "check_parts", "group", "own", "rank", "same", "size"]
__all__ += ["total", "wait"]

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # process 0 writes checkpoints while the others wait


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number. Process 0 alone reads and writes the run's folder."""
    return dist.get_rank() if dist.is_initialized() else 0


def begun() -> int:
    """How many processes torchrun began; they have met in a `group` alone."""
    processes = os.environ.get("WORLD_SIZE") or "1"
    if not processes.isdecimal() or int(processes) < 1:
        raise ValueError(f"WORLD_SIZE={processes} in the environment: expected a number; unset it")
    return int(processes)


@contextmanager
def group(device: str) -> Iterator[None]:
    """Joins the processes that torchrun began; by itself, a process is its own group."""
    if begun() == 1:
        yield
        return
    if device == "cuda":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        gpus = torch.cuda.device_count()
        if processes > gpus:
            raise ValueError(
                f"torchrun began {processes} processes on this machine, which has {gpus} GPU(s): "
                f"begin {gpus} with --nproc-per-node, or add --device cpu"
            )
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # this thread's alone
    # what is no tensor of a GPU travels from memory to memory
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    orderly = False
    try:
        yield
        orderly = True
    finally:
        gc.collect()  # sharded models hold on to groups whose threads must end before the process
        if orderly or device == "cpu":  # NCCL would wait for the others, who wait for this process
            dist.destroy_process_group()


def check_parts(micro_batches: int) -> None:
    """Every process must have as many micro-batches as the others."""
    if micro_batches % (processes := begun()):
        raise ValueError(
            f"Training.micro_batches = {micro_batches}: expected a multiple of the {processes} "
            f"processes that train together; add --set training.micro_batches={processes}"
        )


def own(parts: list[T]) -> list[T]:
    """This process's micro-batches of a step; a ValueError where others would have more."""
    if len(parts) % size():
        raise ValueError(
            f"the examples of a step fill {len(parts)} rows, which {size()} processes cannot share "
            f"evenly: add --set training.micro_batches={size()}, or more training.examples"
        )
    return parts[rank() :: size()]


def same(value: T) -> T:
    """Process 0's value, everywhere."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def total(value: float, device: str) -> float:
    """The sum of all processes' values."""
    if size() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return float(summed)


def add_gradients(
    parameters: list[nn.Parameter], gradients: list[Tensor | None]
) -> list[Tensor | None]:
    """Each parameter's sum over all processes, in one message; None where none has a gradient."""
    if size() == 1:
        return gradients
    given = torch.tensor([g is not None for g in gradients], device=parameters[0].device)
    filled = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)
    ]
    flat = torch.cat([given.float(), *(g.flatten() for g in filled)])
    dist.all_reduce(flat)
    given_by, *summed = torch.split(flat, [len(parameters), *(p.numel() for p in parameters)])
    return [
        g.view_as(p) if count else None
        for p, g, count in zip(parameters, summed, given_by.tolist(), strict=True)
    ]


def wait() -> None:
    """Until every process is here."""
    if size() > 1:
        dist.barrier()
