"""NextLat whose latent dynamics also learn to go on beyond the training documents, where they may
reach no state that the trunk does not have: no objective of the paper's.

    L = L_NextLat + closed_weight / J * sum_j mean SmoothL1(g[j], sg(n(g[j])))
    g[0] = sg(h[last]),   g[j] = p(sg(g[j-1]), sg(e(y[j]))),   j = 1..J

h[last] is the hidden state at the end of a document, and the mean is over documents; y[1..J] are
the tokens that follow it in the batch, those of the next documents (the first after the last).
n(g) is the mean of the `nearest` hidden states of the batch that are nearest to g, without those of
first tokens, which no dynamics predict. J is `onward`.

So no answer beyond the training length is shown, nor any state: the dynamics, which alone learn
from this, are told to end where some history of the training length would, and which one is their
own choice. If the nearest state is of the right product, the error of a step ends with the step;
if it is not, the wrong product is taught, and a model that does not yet tell them apart gets worse
(docs/findings.md has both cases). (Labels that a model gives itself: Lee 2013, "Pseudo-Label".)
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nextlat_bench import kernels
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives._core import FARTHEST, Losses, nothing
from nextlat_bench.objectives.nextlat import LatentDynamics, NextLat
from nextlat_bench.tasks._core import Task, check_count, check_number

__all__ = ["ClosedNextLat"]


@dataclass(frozen=True, kw_only=True)
class ClosedNextLat(NextLat):
    """`onward`: steps beyond the end of a document; `nearest`: of how many states the mean is what
    they are to reach; `closed_weight`: that of this loss."""

    closed_weight: float = 1.0
    onward: int = 24
    nearest: int = 4

    name: ClassVar[str] = "closed_nextlat"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "closed_weight")
        check_count(self, "onward", most=FARTHEST)
        check_count(self, "nearest")

    def check_task(self, task: Task) -> None:
        super().check_task(task)
        if not task.parallel:
            raise ValueError(
                f"{self.name} goes on from the end of a document with the tokens of the next, "
                f"which makes no sense in {task.name}: train nextlat, or train it on a task with "
                "an answer at each position, such as a5"
            )

    def loss_of(
        self, decoder: Decoder, extra: nn.Module, batch: TensorBatch, hidden: Tensor
    ) -> Losses:
        found = super().loss_of(decoder, extra, batch, hidden)
        away = self.away(decoder, cast(LatentDynamics, extra), batch, hidden.detach())
        total = found.total + self.closed_weight * away
        return Losses(total, found.parts | {"away": away.detach()}, found.hidden)

    def away(
        self, decoder: Decoder, extra: LatentDynamics, batch: TensorBatch, hidden: Tensor
    ) -> Tensor:
        """(B, T, D) -> (): how far from the trunk's states the dynamics go; zero where it has none
        but those of first tokens."""
        used = (batch.document.flatten() >= 0).nonzero().squeeze(1)
        h, token = hidden.flatten(0, 1)[used], batch.tokens.flatten()[used]  # (N, D), (N,)
        first = batch.position.flatten()[used] == 0
        states = h[~first].float()
        if len(states) == 0:
            return nothing(hidden)
        half_square = states.square().sum(1) / 2
        last = first.roll(-1).nonzero().squeeze(1)  # where the next token begins a document
        g, total = h[last], h.new_zeros((), dtype=torch.float32)
        for j in range(1, self.onward + 1):
            embedded = decoder.embedding(token[(last + j) % len(token)]).detach()
            g = extra(g.detach(), embedded)
            similar = g.detach().float() @ states.T - half_square
            near = similar.topk(min(self.nearest, len(states)), dim=1).indices
            total = total + kernels.smooth_l1(g, states[near].mean(1))
        return total / self.onward
