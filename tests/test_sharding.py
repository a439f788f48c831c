"""Weights of which some are sharded, in one process; of two processes: test_parallel.py."""

import gc
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nextlat_bench import parallel, sharding


@pytest.fixture(autouse=True, scope="module")
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    gc.collect()  # sharded models hold on to it
    dist.destroy_process_group()


def layers(sharded: bool) -> nn.Sequential:
    """Two, with gradients; sharded: of the first one every process has a part."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    if sharded:
        sharding.shard([model[0]], "cpu")
    model(torch.arange(10.0).reshape(2, 5)).square().sum().backward()
    return model


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("largest", [None, 0.1, 1e6])
def test_gradients_are_clipped_as_whole_ones(largest: float | None) -> None:
    mixed, plain = layers(sharded=True), layers(sharded=False)
    norm = nn.utils.clip_grad_norm_(plain.parameters(), largest or float("inf"))
    assert 0.1 < float(norm) < 1e6
    assert sharding.clip(gradients(mixed), largest) == pytest.approx(float(norm))
    for part, whole in zip(gradients(mixed), gradients(plain), strict=True):
        torch.testing.assert_close(sharding.here(part), whole)


def test_what_all_processes_have_counts_once_and_their_parts_add_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if another process had as much of the first layer."""
    monkeypatch.setattr(parallel, "total", lambda value, device: 2 * value)
    first, second = (float(nn.utils.get_total_norm(gradients(layer))) for layer in layers(False))
    norm = sharding.clip(gradients(layers(sharded=True)), None)
    assert norm == pytest.approx((2 * first**2 + second**2) ** 0.5)


def test_a_checkpoint_is_whole_and_is_cut_as_the_weights_are() -> None:
    mixed, plain = layers(sharded=True), layers(sharded=False)
    of = {}
    for model in (mixed, plain):
        of[model] = torch.optim.AdamW(model.parameters(), foreach=False)
        of[model].step()
    saved = sharding.whole([of[mixed].state_dict()])
    assert [list(state) for state in saved] == [["state", "param_groups"]]
    for i, state in of[plain].state_dict()["state"].items():
        for name, value in state.items():
            assert not sharding.is_sharded(saved[0]["state"][i][name])
            torch.testing.assert_close(saved[0]["state"][i][name], value)

    again = torch.optim.AdamW(mixed.parameters(), foreach=False)
    sharding.cut(again, saved[0])
    cut = [
        {name for name, value in state.items() if sharding.is_sharded(value)}
        for state in saved[0]["state"].values()
    ]
    assert cut == [{"exp_avg", "exp_avg_sq"}] * 2 + [set()] * 2
    again.load_state_dict(saved[0])
    again.step()
    of[plain].step()
    for name, weight in sharding.whole(mixed.state_dict()).items():
        torch.testing.assert_close(weight, plain.state_dict()[name])
