"""What a step's workers do on several GPUs, and what they keep meanwhile."""

import threading
import weakref
from typing import Any

import pytest
import torch

from nextlat_bench.presets import taxi
from nextlat_bench.train import build, micro_batches_of
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
