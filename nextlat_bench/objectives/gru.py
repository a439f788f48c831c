"""GRU: a recurrent network in place of the transformer, the reference that carries a state on.

Source: Cho et al. 2014 (arXiv 1406.1078). Between the decoder's embedding and its norm and head:

    r = sigmoid(W_r [x; h] + b_r)              n  = tanh(W_n x + b_n + r * (U_n h + c_n))
    z = sigmoid(W_z [x; h] + b_z)              h' = (1 - z) * n + z * h
    L = mean over scored positions t of  -log p(target[t] | x[1..t])

It can carry a running product on for any length, which no transformer of fixed depth can (unless
TC0 = NC1), at the price of one position after another.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder, KeyValueCache
from nextlat_bench.objectives._core import Losses, Objective, scored_loss
from nextlat_bench.run import MOST_LAYERS, DecoderConfig
from nextlat_bench.tasks._core import check_count

__all__ = ["GRU"]


@dataclass(frozen=True, kw_only=True)
class GRU(Objective):
    """Cross-entropy of the target at each scored position, read off `layers` recurrent layers.

    They are as wide as the decoder, which has no transformer blocks here.
    """

    layers: int = 1

    name: ClassVar[str] = "gru"

    def __post_init__(self) -> None:
        check_count(self, "layers", most=MOST_LAYERS)

    def decoder(self, config: DecoderConfig, vocab_size: int, max_length: int) -> Decoder:
        unmarked = replace(config, mark_start=False)  # its first state tells where a word begins
        decoder = super().decoder(unmarked, vocab_size, max_length)
        decoder.blocks = nn.ModuleList()
        return decoder

    def init(self, config: DecoderConfig, end: int | None = None) -> nn.Module:
        torch.backends.cudnn.allow_tf32 = False  # or float32 would be 10 bits of a mantissa there
        return nn.GRU(config.width, config.width, self.layers, batch_first=True)

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        hidden = self.read(decoder, extra, batch)
        next_token, _ = scored_loss(decoder, hidden, batch)
        return Losses(next_token, {"next_token": next_token.detach()}, hidden.detach())

    def read(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Tensor:
        """(B, T, D) hidden states. Packed documents are read in a row of their own each, so that
        the state restarts; padding then has the hidden state zero."""
        if not batch.packed:
            return self.hidden(decoder, extra, batch.tokens)
        at = (batch.document.flatten() >= 0).nonzero().squeeze(1)
        column = batch.position.flatten()[at]
        row = (column == 0).cumsum(0) - 1
        tokens = batch.tokens.new_zeros(int(row[-1]) + 1, int(column.max()) + 1)
        tokens[row, column] = batch.tokens.flatten()[at]
        apart = self.hidden(decoder, extra, tokens)
        hidden = apart.new_zeros(batch.tokens.numel(), apart.shape[-1])
        return hidden.index_copy(0, at, apart[row, column]).view(*batch.tokens.shape, -1)

    def hidden(
        self,
        decoder: Decoder,
        extra: nn.Module,
        tokens: Tensor,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T, D): the states after the norm. Goes on from the cache's, if any."""
        before = None if cache is None else cache.state
        outputs, state = extra(decoder.embedding(tokens), before)
        if cache is not None:
            cache.state = state
        return cast(Tensor, decoder.norm(outputs))
