"""Muon beside PyTorch's own, AdamW, and which weights either moves."""

import re

import pytest
import torch
from small_models import tiny

from nextlat_bench import optimizers as optimizers_module
from nextlat_bench.model import build
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.train import micro_batches_of
from nextlat_bench.workers import Workers


def test_muon_takes_the_matrices_inside_blocks() -> None:
    run = tiny("training.optimizer=muon", objective="nextlat")
    model = build(run)
    adamw, *halves = make_optimizers(run.training, model)
    assert len(halves) == 2
    names = {id(p): n for n, p in model.named_parameters()}
    by_muon = {names[id(p)] for half in halves for g in half.param_groups for p in g["params"]}
    by_adamw = {names[id(p)] for g in adamw.param_groups for p in g["params"]}
    assert not by_muon & by_adamw
    assert by_muon | by_adamw == set(names.values())
    assert all(re.search(r"blocks|extra\.mlp", n) and "norm" not in n for n in by_muon)
    plain = adamw.param_groups[1]
    assert plain["weight_decay"] == 0
    assert all(p.ndim < 2 for p in plain["params"])
    adamw_only = run.override(["training.optimizer=adamw"]).training
    assert len(make_optimizers(adamw_only, model)) == 1


def test_halves_have_as_much_to_do() -> None:
    """They work side by side; in the order of the layers one would have twice the other's."""
    run = tiny("training.optimizer=muon", "decoder.layers=4", objective="gpt")
    _, *halves = make_optimizers(run.training, build(run))
    one, other = (sum(p.numel() for p in half.param_groups[0]["params"]) for half in halves)
    assert one == other


@pytest.mark.parametrize(
    ("optimizer", "parts"), [("muon", {}), ("split_muon", {"qkv": 3, "gate_up": 2})]
)
def test_muon_is_pytorchs_on_matrices_of_their_own(
    optimizer: str, parts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps, momentum and all, equal those of a model whose parts are layers."""
    monkeypatch.setattr(
        optimizers_module, "native_bf16", lambda device: True
    )  # PyTorch's always is
    run = tiny(f"training.optimizer={optimizer}", "decoder.zero_init_residual=false")
    model = build(run)
    alone = {
        name: [torch.nn.Parameter(p.detach().clone()) for p in parameter.chunk(count)]
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and not name.startswith(("decoder.embedding", "decoder.head"))
        for count in [parts.get(name.split(".")[-2], 1)]
    }
    assert any("qkv" in name for name in alone)
    theirs = torch.optim.Muon(
        [part for split in alone.values() for part in split],
        lr=run.training.muon_learning_rate,
        weight_decay=run.training.weight_decay,
    )
    ours, named = make_optimizers(run.training, model), dict(model.named_parameters())
    with Workers(1, 1, "cpu", "fp32") as workers:
        for step in range(3):
            workers.gradients(run.objective, model, micro_batches_of(run, step, "cpu"))
            for name, split in alone.items():
                gradient = named[name].grad
                assert gradient is not None
                for part, its in zip(split, gradient.chunk(len(split)), strict=True):
                    part.grad = its.clone()
            theirs.step()
            workers.update(ours, 1.0)
            for name, split in alone.items():
                whole = torch.cat([part.detach() for part in split])
                torch.testing.assert_close(named[name].detach(), whole)


@pytest.mark.parametrize(("native", "error"), [(False, 1e-5), (True, 0.05)])
def test_muon_multiplies_in_bfloat16_where_it_is_native(
    native: bool, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keller Jordan's iteration in double precision, a matrix at a time."""
    monkeypatch.setattr(optimizers_module, "native_bf16", lambda device: native)
    matrices = torch.randn(3, 24, 8, generator=torch.Generator().manual_seed(0))
    a, b, c = 3.4445, -4.7750, 2.0315
    group = {"ns_coefficients": (a, b, c), "ns_steps": 5, "eps": 1e-7}
    found = optimizers_module.orthogonalised(matrices, group)
    assert (found.dtype == torch.bfloat16) is native
    for matrix, update in zip(matrices.double(), found.double(), strict=True):
        x = matrix / matrix.norm()
        for _ in range(5):
            x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
        assert (update - x).abs().max() < error


def test_adamw_has_the_moments_of_language_models() -> None:
    run = tiny()
    adamw, *_ = make_optimizers(run.training, build(run))
    assert {group["betas"] for group in adamw.param_groups} == {(0.9, 0.95)}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_weight_decay_acts_on_matrices_alone(optimizer: str) -> None:
    """Without a gradient it is all that moves a weight."""
    run = tiny(f"training.optimizer={optimizer}", "training.weight_decay=0.5")
    model = build(run)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    adamw, *_ = make_optimizers(run.training, model)
    adamw.step()
    named = dict(model.named_parameters())
    its = {id(p) for group in adamw.param_groups for p in group["params"]}
    left = 1 - 0.5 * run.training.learning_rate
    for name, p in named.items():
        if id(p) in its:
            expected = before[name] * (left if p.ndim >= 2 else 1.0)
            torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=0)
    assert {p.ndim >= 2 for p in named.values() if id(p) in its} == {True, False}
