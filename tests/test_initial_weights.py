"""What a model begins with, whatever its objective adds: every number of a result hangs on it."""

import pytest
import torch
from small_models import ON_TAXI, tiny
from torch import nn

from nextlat_bench.model import build


@pytest.mark.parametrize("objective", ON_TAXI)
def test_matrices_begin_as_small_noise_and_norms_as_one(objective: str) -> None:
    """N(0, 0.02); PyTorch has 1 for embeddings, and up to 1 / sqrt(D) = 0.18 at D = 32."""
    settings = "decoder.zero_init_residual=false", "decoder.mark_start=true"
    model = build(tiny(*settings, objective=objective))
    matrices = 0
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            matrices += 1
            assert part.weight.numel() >= 1_000, name
            assert float(part.weight.detach().std()) == pytest.approx(0.02, rel=0.15), name
            assert abs(float(part.weight.detach().mean())) < 0.003, name
            assert getattr(part, "bias", None) is None, name
        elif not isinstance(part, nn.GRU) and getattr(part, "weight", None) is not None:
            assert (part.weight == 1).all(), name
    assert matrices >= 2
    if objective != "gru":
        assert matrices >= 6
        assert float(model.decoder.start.detach().std()) == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("objective", ["gpt", "mtp", "bst"])
def test_where_asked_every_block_begins_as_the_identity(objective: str) -> None:
    """The blocks that an objective adds, too."""
    model = build(tiny("decoder.zero_init_residual=true", objective=objective))
    names = [name for name, _ in model.named_parameters() if ".blocks." in name]
    assert objective == "gpt" or any(name.startswith("extra.") for name in names)
    ends = ("attention.out.weight", "down.weight")
    for name, parameter in model.named_parameters():
        if ".blocks." in name:
            assert bool(parameter.any()) != name.endswith(ends), name
    assert torch.any(model.decoder.head.weight)
