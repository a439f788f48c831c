"""NextLat whose latent dynamics read disturbed states in training: no objective of the paper's.

    g[i] = p(g[i-1] + noise * rms(g[i-1]) * z + u * (m[s] - m[q]), x[t+i])

z ~ N(0, 1) in every coordinate; rms(g) is the root mean square of a state's coordinates, and
gradients do not pass through it. q is the position in its document at which g[i-1] stands, s any
one, drawn evenly, q among them; m[q] is the mean over the batch of the hidden states at q; u is
even in 0..jitter. Nothing else differs from NextLat, and nothing is added at inference. What p
predicts then depends little on small errors of its own, or on how far into a sequence it is. Beyond
the training length both would add up from step to step; so they die out.
(Training on corrupted inputs: Bishop 1995, "Training with noise is equivalent to Tikhonov
regularization"; Sietsma and Dow 1991.)
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from nextlat_bench.data import TensorBatch
from nextlat_bench.objectives._core import mean_by_position, stream_of
from nextlat_bench.objectives.nextlat import NextLat, Reader
from nextlat_bench.tasks._core import check_number

__all__ = ["NoisyNextLat"]


@dataclass(frozen=True, kw_only=True)
class NoisyNextLat(NextLat):
    """`noise`: its standard deviation, as a multiple of the state's root mean square; `jitter`: the
    furthest that a state is moved, as a multiple of the way between two positions' mean states."""

    noise: float = 0.4
    jitter: float = 2.5

    name: ClassVar[str] = "noisy_nextlat"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "noise")
        check_number(self, "jitter")

    def reader(self, hidden: Tensor, batch: TensorBatch) -> Reader:
        if not self.noise and not self.jitter:
            return super().reader(hidden, batch)
        generator, position = stream_of(batch), batch.position.flatten()
        mean, count = mean_by_position(hidden, batch.document, batch.position)
        mean = mean[: int(count.count_nonzero())]  # they count from 0 in each document

        def read(g: Tensor, at: Tensor) -> Tensor:
            options: dict[str, Any] = {"generator": generator, "device": g.device}
            noise = torch.randn(g.shape, dtype=g.dtype, **options)
            other = torch.randint(len(mean), at.shape, **options)
            far = self.jitter * torch.rand(len(at), 1, **options)
            rms: Tensor = g.detach().square().mean(-1, keepdim=True).sqrt()
            return g + self.noise * rms * noise + far * (mean[other] - mean[position[at]])

        return read
