"""NextLat whose hidden states may not tell, on average, where they stand: no objective of the
paper's.

    L = L_NextLat + stationary_weight / (P D) * sum_q <a[q] - a, b[q] - b>
    a[q] = mean of h[q] over half of the batch's rows,  a = sum_q a[q] / P;    b: the other half

q runs over the P positions in a document that both halves have, without the first: no state is
predicted there. The halves are independent, so that on average the sum is that of the squared
distances |E h[q] - mean_q E h[q]|^2; the squares of one batch's means would also shrink what the
states differ in.

Where documents are stationary, as A5's words are, the state of the world is distributed alike at
every position, and a mean that moves on from one to the next is a count (`nextlat_bench.probes.
clock`). The latent dynamics carry it beyond the lengths that they were taught, and there they fail.
Where prompts come first, as in taxi's walks, position does matter, and this has no such reason.

With `noise` or `jitter` the dynamics also read disturbed states, as `noisy_nextlat`'s do.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives._core import Losses, mean_by_position
from nextlat_bench.objectives.noisy_nextlat import NoisyNextLat
from nextlat_bench.tasks._core import check_number

__all__ = ["StationaryNextLat"]


@dataclass(frozen=True, kw_only=True)
class StationaryNextLat(NoisyNextLat):
    """`stationary_weight`: that of the mean state's movement with position."""

    noise: float = field(default=0.0, metadata={"later": True})
    jitter: float = field(default=0.0, metadata={"later": True})
    stationary_weight: float = 1.0

    name: ClassVar[str] = "stationary_nextlat"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "stationary_weight")

    def loss_of(
        self, decoder: Decoder, extra: nn.Module, batch: TensorBatch, hidden: Tensor
    ) -> Losses:
        found = super().loss_of(decoder, extra, batch, hidden)
        moved = movement(hidden, batch)
        total = found.total + self.stationary_weight * moved
        return Losses(total, found.parts | {"movement": moved.detach()}, found.hidden)


def movement(hidden: Tensor, batch: TensorBatch) -> Tensor:
    """(B, T, D) -> (): how far the mean state moves with position; zero where it is not known."""
    (a, in_a), (b, in_b) = (
        mean_by_position(hidden[half::2].float(), batch.document[half::2], batch.position[half::2])
        for half in (0, 1)
    )
    both = ((in_a > 0) & (in_b > 0)).float().unsqueeze(1)
    both[0] = 0.0
    share = both / both.sum().clamp(min=1)
    away = (a - (share * a).sum(0)) * (b - (share * b).sum(0))
    return (share * away).sum() / hidden.shape[2]
