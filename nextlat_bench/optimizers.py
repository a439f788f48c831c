"""Which optimizer takes which parameter: PyTorch's own, but for Muon's arithmetic."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextlat_bench.device import native_bf16
from nextlat_bench.run import Training
from nextlat_bench.tasks._core import is_number

__all__ = ["Muon", "make_optimizers", "takes_muon"]

PARTS = {"qkv": 3, "gate_up": 2}  # of layers that compute several things in one product


class Ready(torch.optim.Optimizer):
    """These methods import PyTorch's compiler, a second's work, before anything can be trained,
    only to leave themselves out of what it compiles; none of them is ever compiled here."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class AdamW(Ready, torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Muon(Ready, torch.optim.Muon):
    """PyTorch's Muon (Jordan et al. 2024), its Newton-Schulz iterations batched over matrices of
    one shape: on a CPU 60 to 75% of its time, on a GPU fewer launches.

    Of a fused matrix each of its `parts` is a matrix by itself: queries, keys and values; gate and
    up. Orthogonalised together, the part with the largest gradient takes most of the step, and
    queries and keys, whose gradients are small, learn whom to look at late. On Path-Star G(2,5) all
    but the branch was learnt after 200 steps instead of 350.
    """

    def __init__(self, matrices: Sequence[tuple[nn.Parameter, int]], **options: Any) -> None:
        # each of several parts is a parameter of its own in the memory of the whole
        self.split = [
            (whole, [nn.Parameter(part) for part in whole.detach().chunk(n)] if n > 1 else [whole])
            for whole, n in matrices
        ]
        super().__init__([part for _, parts in self.split for part in parts], **options)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        gradients: dict[Tensor, Tensor] = {}
        for whole, parts in self.split:
            if whole.grad is not None:
                gradients |= zip(parts, whole.grad.chunk(len(parts)), strict=True)
        shapes: dict[torch.Size, list[Tensor]] = {}
        for part in gradients:
            shapes.setdefault(part.shape, []).append(part)
            if not self.state[part]:
                self.state[part]["momentum_buffer"] = torch.zeros_like(part)
        for (rows, columns), alike in shapes.items():
            given = [gradients[part] for part in alike]
            buffers = [self.state[part]["momentum_buffer"] for part in alike]
            torch._foreach_lerp_(buffers, given, 1 - group["momentum"])
            ahead = torch._foreach_lerp(given, buffers, group["momentum"])  # Nesterov's
            updates = orthogonalised(torch.stack(ahead), group)
            torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
            rate = group["lr"] * math.sqrt(max(1.0, rows / columns))
            torch._foreach_add_(alike, list(updates.unbind()), alpha=-rate)


def orthogonalised(matrices: Tensor, group: dict[str, Any]) -> Tensor:
    """(n, rows, columns) -> the same, each with singular values of about one. In bfloat16, as the
    authors do, where it is multiplied natively; emulated it takes most of a small model's step."""
    (a, b, c), wide = group["ns_coefficients"], matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x.bfloat16() if native_bf16(x.device.type) else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


def takes_muon(training: Training, name: str, parameter: Tensor) -> bool:
    """Is a model's parameter of this name one of those that Muon moves in this training?"""
    is_table = name.startswith(("decoder.embedding.", "decoder.head."))
    return training.optimizer != "adamw" and parameter.ndim == 2 and not is_table


def make_optimizers(
    training: Training, model: nn.Module, rate_of: Callable[[str], float] = lambda name: 1.0
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks and extra modules, AdamW for embeddings, head, vectors;
    or AdamW for all. Weight decay acts on tensors of two and more dimensions. What requires no
    gradient is left alone.

    Muon comes as two optimizers of a half each, which can work side by side.
    rate_of: by a parameter's name, the share of the learning rate at which it moves; by its shares
    AdamW has more groups, and there are more optimizers of Muon.
    """
    matrices: dict[float, list[tuple[nn.Parameter, int]]] = {}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        share = rate_of(name)
        if not is_number(share):
            raise ValueError(f"rate_of({name!r}) = {share!r}: expected a number, 0 or more")
        if takes_muon(training, name, parameter):
            split = training.optimizer == "split_muon"
            parts = PARTS.get(name.split(".")[-2], 1) if split else 1
            matrices.setdefault(share, []).append((parameter, parts))
        else:
            groups.setdefault((share, parameter.ndim >= 2), []).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        AdamW(
            [
                {
                    "params": parameters,
                    "weight_decay": training.weight_decay if decayed else 0.0,
                    "lr": training.learning_rate * share,
                }
                for (share, decayed), parameters in groups.items()
            ],
            betas=(0.9, 0.95),
            eps=1e-8,
            fused=True,
        )
    ]
    for share, alike in matrices.items():
        alike.sort(key=lambda matrix: matrix[0].numel())
        options: dict[str, Any] = {
            "lr": training.muon_learning_rate * share,
            "weight_decay": training.weight_decay,
        }
        for half in (alike[::2], alike[1::2]):
            if half:
                optimizers.append(Muon(half, **options))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers
