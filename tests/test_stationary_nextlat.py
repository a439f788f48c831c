"""NextLat with stationary states: the loss against a slow loop, and what it asks of the states."""

from dataclasses import replace

import pytest
import torch
from small_models import CONFIG, V, documents, initialised, made_batch, noisy
from torch import Tensor

from nextlat_bench import registry
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.objectives.noisy_nextlat import NoisyNextLat
from nextlat_bench.objectives.stationary_nextlat import StationaryNextLat, movement


def test_the_loss_by_a_slow_loop() -> None:
    """Two halves of the rows, and the positions that both have, without the first."""
    torch.manual_seed(0)
    decoder, batch = noisy(Decoder(CONFIG, V, 32), 0), made_batch(packed=True)
    settings = {"horizon": 2, "latent_weight": 0.7, "kl_weight": 0.3}
    objective = StationaryNextLat(stationary_weight=5.0, **settings)
    losses = objective.loss(decoder, initialised(objective), batch)
    h = decoder(batch.tokens, batch.document, batch.position)
    states: tuple[dict[int, list[Tensor]], ...] = ({}, {})
    for row, columns in documents(batch):
        for place, t in enumerate(columns):
            states[row % 2].setdefault(place, []).append(h[row, t])
    shared = [place for place in states[0] if place in states[1] and place > 0]
    assert len(shared) == 4
    a, b = ([torch.stack(half[place]).mean(0) for place in shared] for half in states)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    moved = sum((x - mean_a) @ (y - mean_b) for x, y in zip(a, b, strict=True))
    moved = moved / len(shared) / CONFIG.width
    torch.testing.assert_close(losses.parts["movement"], moved)
    plain = NextLat(**settings).loss(decoder, initialised(objective), batch)
    torch.testing.assert_close(losses.total, plain.total + 5 * moved)
    assert losses.parts.keys() == plain.parts.keys() | {"movement"}
    silent = StationaryNextLat(stationary_weight=0.0, **settings)
    total = silent.loss(decoder, initialised(objective), batch).total
    torch.testing.assert_close(total, plain.total, rtol=0, atol=0)


def test_with_noise_it_is_noisy_nextlat_and_the_movement() -> None:
    """Without, it says nothing of noise: ids and records are those of before it could have any."""
    torch.manual_seed(0)
    decoder, batch = noisy(Decoder(CONFIG, V, 32), 0), made_batch(packed=True)
    rest = {"horizon": 2, "noise": 0.5, "jitter": 1.5}
    both, one = StationaryNextLat(stationary_weight=3.0, **rest), NoisyNextLat(**rest)
    found, expected = (o.loss(decoder, initialised(one), batch) for o in (both, one))
    moved = 3 * found.parts["movement"]
    torch.testing.assert_close(found.total, expected.total + moved)
    assert abs(float(moved)) > 1e-4
    assert registry.parameters(both) == registry.parameters(one) | {"stationary_weight": 3.0}
    bare = registry.parameters(StationaryNextLat())
    assert bare == registry.parameters(NextLat()) | {"stationary_weight": 1.0}


def words(n: int, length: int) -> tuple[Tensor, TensorBatch]:
    batch = made_batch(packed=False)
    position = torch.arange(length).expand(n, length)
    return position, replace(
        batch,
        tokens=torch.zeros(n, length, dtype=torch.long),
        document=torch.arange(n).unsqueeze(1).expand(n, length),
        position=position,
    )


def test_what_movement_sees() -> None:
    """That of the mean state, in full and without bias; not where states differ otherwise, nor the
    first."""
    torch.manual_seed(0)
    position, batch = words(40_000, 5)
    spread = torch.randn(*position.shape, 8)
    assert abs(float(movement(spread, batch))) < 2e-5  # squares of the halves' means: 5e-5
    towards = torch.zeros(8)
    towards[3] = 1.0
    count = 3.0 * position.unsqueeze(-1) * towards  # 3, 6, 9, 12 after the first
    expected = float(torch.tensor([3.0, 6, 9, 12]).var(unbiased=False)) / 8
    assert float(movement(spread + count, batch)) == pytest.approx(expected, rel=0.01)
    first = 100.0 * (position == 0).unsqueeze(-1) * towards
    assert abs(float(movement(spread + first, batch))) < 2e-5


def test_one_row_or_one_position_says_nothing() -> None:
    for n, length in ((1, 5), (4, 1), (4, 2)):
        position, batch = words(n, length)
        h = torch.randn(*position.shape, 8, requires_grad=True)
        moved = movement(h, batch)
        assert float(moved.detach()) == 0.0
        moved.backward()
        assert not h.grad.any()
