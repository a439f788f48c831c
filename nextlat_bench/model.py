"""What is trained and saved: a run's decoder with what its objective adds."""

import torch
from torch import nn

from nextlat_bench.decoder import Decoder
from nextlat_bench.run import Run

__all__ = ["Model", "build"]


class Model(nn.Module):
    """The decoder and the objective's extra modules."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        length = max(run.training.row_length or 0, run.task.longest)
        vocab, objective = run.task.vocab, run.objective
        self.decoder: Decoder = objective.decoder(run.decoder, len(vocab), length)
        self.extra: nn.Module = objective.init_beside(self.decoder, run.decoder, vocab.end)
        if not isinstance(self.extra, nn.Module):
            what = type(self.extra).__name__
            raise ValueError(f"{objective.name}.init gave a {what}: expected a torch.nn.Module")


def build(run: Run) -> Model:
    """The model with its initial weights, a function of the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return Model(run)
