"""MTP: predict the next token and the d after it, each with a head of its own.

Source: Gloeckle et al. 2024 (arXiv 2404.19737). Head i is one transformer block and a norm on the
shared trunk of layers - 1 blocks, and reads the shared output head:

    L = CE_0 + weight * mean_{i = 1..d} CE_i          CE_i: from position t, the target of t + i

Head 0 is the decoder's own last block and norm, so inference is the plain decoder, as deep as GPT.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Block, Decoder, RMSNorm, initialise
from nextlat_bench.objectives._core import Losses, MultiToken, ahead_loss
from nextlat_bench.run import DecoderConfig

__all__ = ["MTP"]


class Heads(nn.Module):
    """Heads 1..d: a block and a norm each."""

    def __init__(self, config: DecoderConfig, horizon: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(horizon))
        self.norms = nn.ModuleList(RMSNorm(config.width) for _ in range(horizon))
        initialise(self, config.zero_init_residual)


@dataclass(frozen=True, kw_only=True)
class MTP(MultiToken):
    """Multi-token prediction: `horizon` tokens beyond the next one."""

    name: ClassVar[str] = "mtp"
    head_blocks: ClassVar[int] = 1

    def init(self, config: DecoderConfig, end: int | None = None) -> nn.Module:
        return Heads(config, self.horizon)

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        heads = cast(Heads, extra)
        last = decoder.config.layers - self.head_blocks
        x, attended = decoder.trunk(*batch.inputs, layers=last)
        hidden = decoder.norm(decoder.blocks[last](x, attended))
        losses = []
        for i, at in batch.ahead(self.horizon):
            h = hidden if i == 0 else heads.norms[i - 1](heads.blocks[i - 1](x, attended))
            losses.append(ahead_loss(decoder, h.flatten(0, 1), at - i, at, batch))
        return self.combine(losses, hidden)
