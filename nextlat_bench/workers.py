"""A step's gradients and updates: micro-batches side by side, the next batch made meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from nextlat_bench import parallel, sharding
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import trained_parameters
from nextlat_bench.model import Model
from nextlat_bench.objectives._core import Losses, Objective

__all__ = ["COLUMNS", "Workers"]

# of metrics.jsonl, beside an objective's own parts of the loss
COLUMNS = ("step", "loss", "latent_std", "gradient_norm", "rate", "tokens_per_second")


class Workers:
    """Gradients of the micro-batches: on a CPU side by side, a thread each, which keeps two cores
    busy where splitting every small operation over them does not; on a GPU one after the other.

    submit: makes what the next step reads, on a GPU beside what the model does.
    """

    def __init__(
        self, parts: int, threads: int | None, device: str, precision: str, sharded: bool = False
    ) -> None:
        self.device, self.precision, self.sharded = device, precision, sharded
        self.threads_before = torch.get_num_threads()
        threads = threads or self.threads_before
        side_by_side = min(parts, threads) if device == "cpu" else 1
        torch.set_num_threads(max(1, threads // side_by_side))
        begin = None
        if device == "cuda":  # a thread begins on the first GPU, whichever its process has chosen
            begin = partial(torch.cuda.set_device, torch.cuda.current_device())
        self.pool = ThreadPoolExecutor(side_by_side, initializer=begin)
        self.submit = self.pool.submit
        self.map = self.pool.map if device == "cpu" else map

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads_before)

    def gradients(
        self, objective: Objective, model: "Model", micro_batches: list[TensorBatch]
    ) -> list[Losses]:
        """Leaves the mean gradient over all processes' micro-batches in each parameter's `grad`,
        added up in a fixed order as they come; returns this process's losses, of which the first
        alone keeps its hidden states."""
        if self.sharded:
            return self.sharded_gradients(objective, model, micro_batches)
        parameters = trained_parameters(model)

        def work(batch: TensorBatch) -> tuple[Losses, tuple[Tensor | None, ...]]:
            losses = self.losses(objective, model, batch)
            return losses, torch.autograd.grad(losses.total, parameters, allow_unused=True)

        model.zero_grad()
        found: list[Losses] = []
        sums: list[Tensor | None] = [None] * len(parameters)
        for losses, gradients in self.map(work, micro_batches):
            found.append(without_hidden(losses) if found else losses)
            sums = list(map(added, sums, gradients))
            del gradients  # or it would lie beside the next
        sums = parallel.add_gradients(parameters, sums)
        count = len(found) * parallel.size()
        for i, parameter in enumerate(parameters):
            total, sums[i] = sums[i], None
            parameter.grad = total if total is None or count == 1 else total / count
        return found

    def losses(self, objective: Objective, model: "Model", batch: TensorBatch) -> Losses:
        bf16 = self.precision == "bf16"
        # The cache of casts is shared by all threads, so it would tie their graphs together.
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16, cache_enabled=False):
            losses = objective.loss(model.decoder, model.extra, batch)
        who = f"{objective.name}.loss gave"  # in case it is somebody's own
        if not isinstance(losses, Losses):
            raise ValueError(f"{who} a {type(losses).__name__}: expected Losses")
        for name, value in {"total": losses.total, **losses.parts}.items():
            if not isinstance(value, Tensor) or value.ndim:
                raise ValueError(f"{who} for {name} what is no tensor of one number")
            if name in COLUMNS:
                raise ValueError(f"{who} a part called {name!r}, which the log has already")
        if not isinstance(losses.hidden, Tensor):
            raise ValueError(f"{who} a {type(losses.hidden).__name__} as its hidden states")
        if not losses.total.requires_grad:
            raise ValueError(f"{who} a total that no weight changes: it cannot be minimised")
        return losses

    def sharded_gradients(
        self, objective: Objective, model: "Model", micro_batches: list[TensorBatch]
    ) -> list[Losses]:
        """The same where FSDP has averaged the blocks' gradients over the processes already."""
        model.zero_grad()
        found: list[Losses] = []
        for batch in micro_batches:
            losses = self.losses(objective, model, batch)
            losses.total.backward()  # type: ignore[no-untyped-call]
            found.append(without_hidden(losses) if found else losses)
        kept_whole = [p for p in trained_parameters(model) if not sharding.is_sharded(p)]
        sums = parallel.add_gradients(kept_whole, [p.grad for p in kept_whole])
        for parameter, total in zip(kept_whole, sums, strict=True):
            parameter.grad = None if total is None else total / parallel.size()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= len(micro_batches)
        return found

    def update(self, optimizers: list[torch.optim.Optimizer], rate: float) -> None:
        """One step of each at `rate` of its learning rate; they share no parameter."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate
        list(self.map(lambda optimizer: optimizer.step(), optimizers))


def added(sum_: Tensor | None, part: Tensor | None) -> Tensor | None:
    """Their sum, where None is nothing."""
    return part if sum_ is None else sum_ if part is None else sum_ + part


def without_hidden(losses: Losses) -> Losses:
    return replace(losses, hidden=losses.hidden.new_empty(0))
