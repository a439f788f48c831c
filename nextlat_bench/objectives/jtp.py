"""JTP: one light head predicts the next token and, teacher-forced, the d after it.

Source: Ahn, Lamb and Langford 2025 (arXiv 2503.21801). From a hidden state h[t], the
planning sequence

    LN(e(x[t+k]) + a * h[t]),   k = 0..d

passes ONE causal self-attention layer with a learned bias per head and pair of offsets, no MLP.
Outputs 1..d add h[t], output 0 does not; output k, normed, predicts x[t+k+1]:

    L = CE_0 + weight * mean_{k = 1..d} CE_k

Inference reads output 0 of the planning sequence of length 1.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder, RMSNorm, causal_mask, initialise
from nextlat_bench.objectives._core import Losses, MultiToken, ahead_loss
from nextlat_bench.run import DecoderConfig

__all__ = ["JTP"]

MAX_HEADS = 4


class PlanningHead(nn.Module):
    """The light head: (..., k, D) embeddings of k <= d + 1 tokens and (..., D) -> (..., k, D)."""

    def __init__(self, config: DecoderConfig, horizon: int) -> None:
        super().__init__()
        most = min(MAX_HEADS, config.heads)
        self.heads = max(heads for heads in range(1, most + 1) if config.width % heads == 0)
        self.scale = nn.Parameter(torch.tensor(0.1))  # a
        self.input_norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.bias = nn.Parameter(torch.zeros(self.heads, horizon + 1, horizon + 1))
        self.norm = RMSNorm(config.width)
        initialise(self)

    def forward(self, embedded: Tensor, h: Tensor) -> Tensor:
        N, k, D = embedded.shape
        z = self.input_norm(embedded + self.scale * h[:, None])
        qkv = self.qkv(z).view(N, k, 3, self.heads, D // self.heads)
        q, key, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, H, k, D/H)
        scores = q @ key.transpose(-1, -2) * (D // self.heads) ** -0.5 + self.bias[:, :k, :k]
        causal = causal_mask(k, h.device)
        weights = scores.float().masked_fill(~causal, float("-inf")).softmax(-1).to(v.dtype)
        y = self.out((weights @ v).transpose(1, 2).reshape(N, k, D))
        residual = torch.arange(k, device=h.device)[None, :, None] > 0
        return cast(Tensor, self.norm(y + residual * h[:, None]))


@dataclass(frozen=True, kw_only=True)
class JTP(MultiToken):
    """Joint multi-token prediction: `horizon` tokens beyond the next one."""

    name: ClassVar[str] = "jtp"

    def init(self, config: DecoderConfig, end: int | None = None) -> nn.Module:
        return PlanningHead(config, self.horizon)

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        hidden = decoder(*batch.inputs)
        h, tokens = hidden.flatten(0, 1), batch.tokens.flatten()
        # Past the end of a document the planning sequence reads strangers, but causality keeps
        # them out of the outputs that are scored.
        offsets = torch.arange(self.horizon + 1, device=h.device)
        source = (batch.document.flatten() >= 0).nonzero()  # (S, 1)
        plan = tokens[(source + offsets).clamp(max=len(tokens) - 1)]  # (S, d + 1)
        outputs = extra(decoder.embedding(plan), h.index_select(0, source.squeeze(1)))
        row = torch.full_like(tokens, -1)
        row[source.squeeze(1)] = torch.arange(len(source), device=h.device)
        losses = [
            ahead_loss(decoder, outputs[:, k], row[at - k], at, batch)
            for k, at in batch.ahead(self.horizon)
        ]
        return self.combine(losses, hidden)

    def logits(self, decoder: Decoder, extra: nn.Module, hidden: Tensor, tokens: Tensor) -> Tensor:
        h = hidden.reshape(-1, hidden.shape[-1])
        output = extra(decoder.embedding(tokens.reshape(-1, 1)), h)[:, 0]
        return cast(Tensor, decoder.head(output)).view(*hidden.shape[:-1], -1)
