"""GPT: predict the next token.

L = mean over scored positions t of  -log p(target[t] | x[1..t])
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives._core import Losses, Objective, scored_loss

__all__ = ["GPT"]


@dataclass(frozen=True, kw_only=True)
class GPT(Objective):
    """Cross-entropy of the target at each scored position; no parameters."""

    name: ClassVar[str] = "gpt"

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        hidden = decoder(*batch.inputs)
        next_token, _ = scored_loss(decoder, hidden, batch)
        return Losses(next_token, {"next_token": next_token.detach()}, hidden.detach())
