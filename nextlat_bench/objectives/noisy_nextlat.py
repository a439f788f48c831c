"""NextLat whose latent dynamics read noisy states in training: no objective of the paper's.

    g[i] = p(g[i-1] + noise * rms(g[i-1]) * z[i], x[t+i]),   z[i] ~ N(0, 1) in every coordinate

rms(g) is the root mean square of a state's coordinates; gradients do not pass through it. Nothing
else differs from NextLat, and nothing is added at inference. What p predicts then depends little on
small errors of its own, which die out from step to step instead of adding up.
(Training on corrupted inputs: Bishop 1995, "Training with noise is equivalent to Tikhonov
regularization"; Sietsma and Dow 1991.)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nextlat_bench.data import TensorBatch
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.run import is_number
from nextlat_bench.tasks._core import check_field

__all__ = ["NoisyNextLat"]


@dataclass(frozen=True, kw_only=True)
class NoisyNextLat(NextLat):
    """`noise`: its standard deviation, as a multiple of the state's root mean square."""

    noise: float = 0.8

    name: ClassVar[str] = "noisy_nextlat"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "noise", is_number(self.noise), "a number, 0 or more")

    def read(self, g: Tensor, batch: TensorBatch, i: int) -> Tensor:
        """The noise is drawn from the batch's own tokens, so a resumed run repeats it."""
        tokens = batch.tokens.flatten()
        places = torch.arange(1, len(tokens) + 1, device=tokens.device)
        generator = torch.Generator(g.device).manual_seed(int((tokens * places).sum()) + i)
        noise = torch.randn(g.shape, generator=generator, device=g.device, dtype=g.dtype)
        return g + self.noise * g.detach().square().mean(-1, keepdim=True).sqrt() * noise
