"""GPT's loss with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

L = mean over scored positions t of  -sum_v q(v) log p(v | x[1..t])
q = (1 - smoothing) * one-hot(target[t]) + smoothing / V
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives._core import Losses, Objective, scored_loss
from nextlat_bench.tasks._core import check_number

__all__ = ["Smooth"]


@dataclass(frozen=True, kw_only=True)
class Smooth(Objective):
    """Cross-entropy with a share `smoothing` of each target spread over the vocabulary."""

    name: ClassVar[str] = "smooth"
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_number(self, "smoothing", most=1)

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        hidden = decoder(*batch.inputs)
        next_token, logits = scored_loss(decoder, hidden, batch)
        total = F.cross_entropy(logits, batch.scored_targets, label_smoothing=self.smoothing)
        return Losses(total, {"next_token": next_token.detach()}, hidden.detach())
