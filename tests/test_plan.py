"""What a run would take: counts by hand, a trial against the training itself, every preset."""

import pytest
import torch

from nextlat_bench import plan as plan_module
from nextlat_bench import registry
from nextlat_bench.plan import cost, duration, matrix_rate, plan_view, size, trial
from nextlat_bench.presets import path_star, taxi
from nextlat_bench.train import build, micro_batches_of

RATE = 1e11  # floating-point operations a second; no matter which


def test_counts_by_hand() -> None:
    run = path_star.run("gpt", "smoke", 0)
    counted, model = cost(run), build(run)
    assert counted["parameters"] == sum(p.numel() for p in model.parameters())
    assert counted["weight_bytes"] == 16 * counted["parameters"]
    tokens = sum(int((b.document >= 0).sum()) for b in micro_batches_of(run, 0, "cpu"))
    assert counted["tokens_per_step"] == tokens


def test_a_part_of_the_examples_stands_for_all() -> None:
    """Activations of the whole step, from all of its examples and from a quarter of them."""
    run = path_star.run("nextlat", "smoke", 0).override(["training.precision=fp32"])
    per_step = cost(run)["flops_per_step"]
    whole = trial(run, per_step, 1e15)
    part = trial(run, per_step, per_step / plan_module.SECONDS_OF_TRIAL / 4)
    assert whole is not None
    assert part is not None
    assert (whole.examples, part.examples) == (64, 16)
    assert part.activation_bytes == pytest.approx(whole.activation_bytes, rel=0.02)
    assert part.seconds_per_step == pytest.approx(whole.seconds_per_step, rel=3)


def test_activations_are_what_autograd_keeps() -> None:
    """y = tanh(x W): x is kept for W's gradient, y for tanh's; the weight itself is not counted."""
    layer = torch.nn.Linear(3, 5, bias=False)
    x = torch.randn(7, 3, requires_grad=True)
    with plan_module.counted(layer) as storages:  # type: ignore[arg-type]
        y = layer(x).tanh()
    assert sum(storages.values()) == 4 * (7 * 3 + 7 * 5)
    del y


def test_weights_that_would_fill_the_memory_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    run = path_star.run("gpt", "smoke", 0)
    monkeypatch.setattr(plan_module, "memory", lambda: 4 * cost(run)["weight_bytes"] - 1)
    monkeypatch.setattr(plan_module, "build", None)
    assert trial(run, 1.0, RATE) is None


def test_growing_words_are_tried_at_their_full_length() -> None:
    run = registry.load("presets", "a5").run("gpt", "laptop", 0)
    tried = trial(run, cost(run)["flops_per_step"], 1e9)
    assert tried is not None
    whole = trial(run, cost(run)["flops_per_step"], 1e15)
    assert whole is not None
    assert tried.examples < whole.examples
    assert tried.activation_bytes == pytest.approx(whole.activation_bytes, rel=0.05)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("task", registry.names("presets"))
def test_every_preset_has_a_plan(task: str, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "matrix_rate", lambda: RATE)
    monkeypatch.setattr(plan_module, "trial", lambda *given: None)  # tried above, on small ones
    run = registry.load("presets", task).run("nextlat", scale, 0)
    table = plan_view(run, "h100")
    rows = dict(zip(*(column.cells for column in table.columns), strict=True))
    assert "FLOPs a step" in str(rows["arithmetic"])
    assert "989 TFLOP/s" in str(rows["on one H100"])


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="no GPU named 'h10'; did you mean 'h100'"):
        plan_view(taxi.run("gpt", "smoke", 0), "h10")


def test_readable_numbers() -> None:
    assert [duration(s) for s in (90, 5400, 36_000, 864_000)] == [
        "90.0 seconds",
        "90.0 minutes",
        "10.0 hours",
        "10.0 days",
    ]
    assert [size(n) for n in (12, 1536, 3 * 2**30)] == ["12 B", "1.5 KiB", "3.00 GiB"]
    assert matrix_rate() > 1e8
