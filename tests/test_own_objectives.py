"""What an objective of somebody's own may ask of training: frozen weights, a word after each step,
a rate of its own."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import safetensors.torch
import torch
from small_models import tiny
from torch import nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.model import build
from nextlat_bench.objectives._core import Losses, Objective, scored_loss
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.plan import cost
from nextlat_bench.run import DecoderConfig, Run
from nextlat_bench.run_dir import RunDir
from nextlat_bench.train import Progress, check_processes, train

MOMENTUM = 0.75


@dataclass(frozen=True, kw_only=True)
class Taught(Objective):
    """Hidden states are drawn to those of a moving average of the decoder, ever more."""

    rate: float = 1.0

    name: ClassVar[str] = "taught"

    def init_beside(
        self, decoder: Decoder, config: DecoderConfig, end: int | None = None
    ) -> nn.Module:
        extra = nn.Linear(config.width, config.width, bias=False)
        extra.teacher = copy.deepcopy(decoder).requires_grad_(False)
        extra.register_buffer("weight_now", torch.zeros(()))
        return extra

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        hidden = decoder(*batch.inputs)
        next_token, _ = scored_loss(decoder, hidden, batch)
        apart = (extra(hidden) - extra.teacher(*batch.inputs)).float().square().mean()
        total = next_token + extra.weight_now * apart
        return Losses(total, {"next_token": next_token.detach()}, hidden.detach())

    def after_step(self, decoder: Decoder, extra: nn.Module, done: int, steps: int) -> None:
        for its, weight in zip(extra.teacher.parameters(), decoder.parameters(), strict=True):
            its.lerp_(weight, 1 - MOMENTUM)
        extra.weight_now.fill_(done / steps)

    def rate_of(self, name: str) -> float:
        return self.rate if name.startswith("extra.") else 1.0


def taught(*settings: str, rate: float = 1.0) -> Run:
    return replace(tiny(*settings), objective=Taught(rate=rate))


def weights(folder: RunDir) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(folder.model.read_bytes())


def test_a_teacher_follows_the_decoder(tmp_path: Path) -> None:
    run = taught("training.steps=1", "training.precision=fp32")
    folder = RunDir.prepare(tmp_path, run)
    train(run, folder, device="cpu")
    before, after = build(run).state_dict(), weights(folder)
    assert after["extra.weight_now"] == 1
    for name, weight in before.items():
        if name.startswith("decoder."):
            expected = MOMENTUM * weight + (1 - MOMENTUM) * after[name]
            torch.testing.assert_close(after[name.replace("decoder", "extra.teacher", 1)], expected)


def test_it_outlives_a_kill(tmp_path: Path) -> None:
    run = taught("training.steps=6", "training.precision=fp32")
    whole, parts = (RunDir.prepare(tmp_path / name, run) for name in ("whole", "parts"))

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    train(run, whole, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(run, parts, device="cpu", progress=stop, seconds_between_checkpoints=0)
    train(run, parts, device="cpu")
    assert parts.model.read_bytes() == whole.model.read_bytes()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_frozen_weights_have_no_optimizer(optimizer: str) -> None:
    run = taught(f"training.optimizer={optimizer}")
    model = build(run)
    held = {
        id(p)
        for each in make_optimizers(run.training, model)
        for group in each.param_groups
        for p in group["params"]
    }
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    each = {True: 16, False: 4}  # bytes: a weight, its gradient, two moments; a weight alone
    if optimizer == "adamw":
        expected = sum(p.numel() * each[p.requires_grad] for p in model.parameters())
        assert cost(run)["weight_bytes"] == expected
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert cost(run)["parameters"] == trained


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_extra_modules_at_a_rate_of_their_own(optimizer: str) -> None:
    run = taught(f"training.optimizer={optimizer}", rate=0.25)
    model, training = build(run), run.training
    optimizers = make_optimizers(training, model, run.objective.rate_of)
    whole = training.muon_learning_rate if optimizer == "muon" else training.learning_rate
    rates = {
        id(p): group["base_lr"]
        for each in optimizers
        for group in each.param_groups
        for p in group["params"]
    }
    assert rates[id(model.extra.weight)] == 0.25 * whole
    assert rates[id(model.decoder.head.weight)] == training.learning_rate


def test_a_rate_that_is_none_is_named() -> None:
    run = taught(rate=-1.0)
    with pytest.raises(ValueError, match=r"rate_of\('extra.weight'\) = -1.0: expected a number"):
        make_optimizers(run.training, build(run), run.objective.rate_of)


def test_what_reads_whole_weights_is_not_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = taught("training.micro_batches=2", "training.optimizer=adamw")
    with pytest.raises(ValueError, match="after_step reads whole weights: leave out --shard"):
        check_processes(run, sharded=True)
