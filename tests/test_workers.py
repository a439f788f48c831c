"""A step's workers: their sums and updates, what they keep meanwhile, and several GPUs."""

import threading
import weakref
from typing import Any

import pytest
import torch

from nextlat_bench.data import TensorBatch
from nextlat_bench.model import Model, build
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.presets import taxi
from nextlat_bench.run import Run
from nextlat_bench.train import clip, micro_batches_of
from nextlat_bench.workers import Workers


def test_a_gpu_gets_its_batches_from_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's current device is a thread's: without a word, batches of all processes of a machine
    would go to its first GPU. And updates do not wait for the next batch."""
    chosen: dict[int, int] = {}
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    monkeypatch.setattr(
        "torch.cuda.set_device", lambda i: chosen.update({threading.get_ident(): i})
    )
    may_end = threading.Event()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weight], "base_lr": 1.0}])
    with Workers(4, 2, "cuda", "fp32") as workers:
        batch = workers.submit(lambda: may_end.wait(60) and threading.get_ident())
        workers.update([optimizer], 1.0)
        assert not batch.done()
        may_end.set()
        assert chosen == {batch.result(): 3}
    assert threading.get_ident() not in chosen


def test_gradients_of_one_micro_batch_are_kept_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one follows another: four would be four times the weights. The sums are the same."""
    run = taxi.run("mtp", "smoke", 0).override(
        ["training.examples=16", "training.micro_batches=4", "decoder.layers=1"]
    )
    batches, grad, alive, most = micro_batches_of(run, 0, "cpu"), torch.autograd.grad, set(), []

    def watched(*arguments: Any, **options: Any) -> Any:
        found = grad(*arguments, **options)
        first = next(gradient for gradient in found if gradient is not None)
        alive.add(id(first))
        weakref.finalize(first, alive.discard, id(first))
        most.append(len(alive))
        return found

    model = build(run)
    with Workers(4, 1, "cpu", "fp32") as workers:
        together = workers.gradients(run.objective, model, batches)
        expected = [p.grad for p in model.parameters()]
        monkeypatch.setattr("torch.autograd.grad", watched)
        workers.map = map
        losses = workers.gradients(run.objective, model, batches)
    assert most == [1, 2, 1, 1]  # what was added up of the first two is no gradient of either
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert gradient is not None
        assert torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
    for found in (losses, together):  # the log asks for the first alone
        assert [len(each.hidden) > 0 for each in found] == [True, False, False, False]


def micro_batched(parts: int) -> tuple[Run, Model, list[TensorBatch]]:
    settings = ["training.examples=32", "training.row_length=20", "task.max_nodes=8"]
    settings += ["decoder.layers=1", "decoder.width=32", "decoder.zero_init_residual=false"]
    run = taxi.run("nextlat", "smoke", 0).override([*settings, f"training.micro_batches={parts}"])
    return run, build(run), micro_batches_of(run, 0, "cpu")


def test_gradients_are_the_mean_over_micro_batches() -> None:
    run, model, batches = micro_batched(3)
    with Workers(3, 2, "cpu", "fp32") as workers:
        workers.gradients(run.objective, model, batches)
    ours = [p.grad for p in model.parameters()]
    losses = [run.objective.loss(model.decoder, model.extra, b).total for b in batches]
    expected = torch.autograd.grad(sum(losses) / 3, list(model.parameters()))
    torch.testing.assert_close(ours, list(expected))


def test_the_schedule_reaches_the_optimizers() -> None:
    run, model, batches = micro_batched(1)
    optimizers = make_optimizers(run.training, model)
    before = [p.detach().clone() for p in model.parameters()]
    with Workers(1, 1, "cpu", "fp32") as workers:
        workers.gradients(run.objective, model, batches)
        workers.update(optimizers, 0.0)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        workers.update(optimizers, 0.25)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    adamw, *muon = ({g["lr"] for g in o.param_groups} for o in optimizers)
    assert adamw == {0.25 * run.training.learning_rate}
    assert all(rates == {0.25 * run.training.muon_learning_rate} for rates in muon)


def test_clipping_shortens_long_gradients_only() -> None:
    run, model, batches = micro_batched(1)
    with Workers(1, 1, "cpu", "fp32") as workers:
        workers.gradients(run.objective, model, batches)
    norm = clip(model, None)
    assert clip(model, 2 * norm) == pytest.approx(norm)
    assert clip(model, norm / 2) == pytest.approx(norm)
    assert clip(model, None) == pytest.approx(norm / 2, rel=1e-4)
