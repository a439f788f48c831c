"""NextLat: each hidden state, with the next token, predicts the next hidden state.

Source: arXiv 2511.05963, equations 1-7, Algorithm 1. With latent dynamics p and g[0] = h[t]:

    p(h, x) = h + MLP(RMSNorm([e(x), h]))            g[i] = p(g[i-1], x[t+i]),   i = 1..d
    L = L_next_token
      + latent_weight / d * sum_i mean SmoothL1(g[i], sg(h[t+i]))
      + kl_weight / d     * sum_i mean KL(softmax(sg(head(h[t+i]))) || softmax(sg(head)(g[i])))

The first mean is over every pair (t, i) inside one document, the second over those whose position
t+i is scored; sg stops gradients. The trunk learns through h[t] and e(x[t+i]); the head learns from
the next-token loss alone. (The released code masks by the last step of a rollout only; here a
rollout ends where its document does.)

With `residual` false, not the paper's, p is the MLP alone: what it does not read of a state is gone
after one step. With h + MLP that stays and adds up in long rollouts, unless the MLP takes it away.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextlat_bench import kernels
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import NORM_EPS, Decoder, RMSNorm, initialise
from nextlat_bench.objectives._core import FARTHEST, Losses, Objective, check_horizon, scored_loss
from nextlat_bench.run import WIDEST, DecoderConfig
from nextlat_bench.tasks._core import Task, check_count, check_field, check_number

__all__ = ["LatentDynamics", "NextLat"]


Reader = Callable[[Tensor, Tensor], Tensor]


class TokenTable(NamedTuple):
    """What the latent dynamics need of P tokens, and their first layer's part for a state."""

    part: Tensor  # (P, H): the first layer's output, before the norm's scale
    square: Tensor  # (P, 1): squared length of the embedding
    of_state: Tensor  # (H, D)


class LatentDynamics(nn.Module):
    """p(h, x) = h + MLP(RMSNorm([e(x), h])), or the MLP alone: three Linear layers without bias,
    GELU between."""

    def __init__(self, width: int, hidden: int, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.norm = RMSNorm(2 * width)
        self.mlp = nn.Sequential(
            nn.Linear(2 * width, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, width, bias=False),
        )
        initialise(self)

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        """(..., D), (..., D) -> (..., D): the next hidden state."""
        return self._onward(h, self.mlp(self.norm(torch.cat([embedded, h], dim=-1))))

    def look_up(self, embedded: Tensor) -> TokenTable:
        """(P, D) embedded tokens -> what a step takes of each: a norm only scales its row, so the
        first layer of [e(x), h] is a sum of a part of e(x), the same at every step, and one of h.
        """
        first = cast(nn.Linear, self.mlp[0]).weight * self.norm.weight
        of_token, of_state = first.chunk(2, dim=1)
        square = kernels.squared_length(embedded)
        return TokenTable(F.linear(embedded, of_token), square, of_state)

    def roll(self, h: Tensor, table: TokenTable, index: Tensor) -> Tensor:
        """(N, D) and (N,) rows of the table -> (N, D): `forward`, with less to multiply."""
        square = table.square.index_select(0, index) + kernels.squared_length(h)
        square = square / (2 * h.shape[-1])
        first = F.linear(h, table.of_state) + table.part.index_select(0, index)
        first = first * (square + NORM_EPS).rsqrt().to(first.dtype)
        return self._onward(h, self.mlp[1:](first))

    def _onward(self, h: Tensor, change: Tensor) -> Tensor:
        return h + change if self.residual else change


@dataclass(frozen=True, kw_only=True)
class NextLat(Objective):
    """Next-latent prediction. `dynamics_width` is the MLP's hidden width; None: the decoder's.
    `residual`: the dynamics add what they compute to the state."""

    horizon: int = 1
    latent_weight: float = 1.0
    kl_weight: float = 1.0
    dynamics_width: int | None = None
    residual: bool = field(default=True, metadata={"later": True})

    name: ClassVar[str] = "nextlat"

    def __post_init__(self) -> None:
        check_count(self, "horizon", most=FARTHEST)
        check_number(self, "latent_weight")
        check_number(self, "kl_weight")
        check_count(self, "dynamics_width", most=WIDEST, optional=True)
        check_field(self, "residual", isinstance(self.residual, bool), "True or False")

    def check_task(self, task: Task) -> None:
        check_horizon(self.horizon, task)

    def init(self, config: DecoderConfig, end: int | None = None) -> nn.Module:
        return LatentDynamics(config.width, self.dynamics_width or config.width, self.residual)

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        return self.loss_of(decoder, extra, batch, decoder(*batch.inputs))

    def loss_of(
        self, decoder: Decoder, extra: nn.Module, batch: TensorBatch, hidden: Tensor
    ) -> Losses:
        """`loss`, from the (B, T, D) hidden states of the batch."""
        next_token, logits = scored_loss(decoder, hidden, batch)
        dynamics = cast(LatentDynamics, extra)
        latent, kl = self.auxiliary(decoder, dynamics, batch, hidden, logits.detach())
        total = next_token + self.latent_weight * latent + self.kl_weight * kl
        parts = {"next_token": next_token, "latent": latent}
        if self.kl_weight:
            parts["kl"] = kl
        return Losses(total, {k: v.detach() for k, v in parts.items()}, hidden.detach())

    def auxiliary(
        self,
        decoder: Decoder,
        extra: LatentDynamics,
        batch: TensorBatch,
        hidden: Tensor,
        teacher: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The two sums over i, each divided by d. `teacher`: (S, V) logits at scored positions."""
        h = hidden.flatten(0, 1)  # (N, D), N = B * T
        target = h.detach()
        present, token = torch.unique(batch.tokens.flatten(), return_inverse=True)
        table = extra.look_up(decoder.embedding(present))
        row_of = torch.full_like(token, -1)  # position -> its row of `teacher`
        row_of[batch.scored] = torch.arange(len(batch.scored), device=token.device)
        p = teacher.softmax(-1)
        negative_entropy = (p * teacher.log_softmax(-1)).sum(-1)  # (S,)
        head = decoder.head.weight.detach()

        latent = kl = h.new_zeros((), dtype=torch.float32)
        read = self.reader(hidden.detach(), batch)
        g, row = h, torch.arange(len(h), device=h.device)  # the rollout at position t is g[row[t]]
        for i, at in batch.ahead(self.horizon):
            if i == 0 or len(at) == 0:
                continue
            g = extra.roll(read(g.index_select(0, row[at - 1]), at - 1), table, token[at])
            row[at] = torch.arange(len(at), device=h.device)
            latent = latent + kernels.smooth_l1(g, target[at])
            rows = row_of[at]
            judged = (rows >= 0).nonzero().squeeze(1)
            if self.kl_weight and len(judged):
                rows = rows[judged]
                student = g if len(rows) == len(g) else g.index_select(0, judged)
                logits = F.linear(student, head)
                kl = kl + kernels.kl_divergence(logits, p[rows], negative_entropy[rows])
        return latent / self.horizon, kl / self.horizon

    def reader(self, hidden: Tensor, batch: TensorBatch) -> Reader:
        """What p is given in training of states (N, D) at flat positions (N,); here, all of it."""
        return lambda g, at: g

    @staticmethod
    def step(decoder: Decoder, extra: nn.Module, h: Tensor, tokens: Tensor) -> Tensor:
        """(..., D), (...) -> (..., D): the recurrent reading, h[t+1] = p(h[t], x[t+1])."""
        return cast(Tensor, extra(h, decoder.embedding(tokens)))
