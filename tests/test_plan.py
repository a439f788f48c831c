"""What a run would take: counts by hand, a trial against the training itself, every preset."""

import dataclasses
import time
from collections.abc import Callable
from itertools import accumulate, cycle
from types import ModuleType
from typing import Any

import pytest
import torch
from small_models import ON_TAXI
from torch.utils.flop_counter import FlopCounterMode

from nextlat_bench import plan as plan_module
from nextlat_bench import registry
from nextlat_bench.cli.measuring import cells, price
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder, swiglu_width
from nextlat_bench.model import build
from nextlat_bench.objectives._core import Losses
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.plan import Products, cost, duration, matrix_rate, plan_view, size, trial
from nextlat_bench.presets import a5, countdown, language, path_star, taxi
from nextlat_bench.run import Run
from nextlat_bench.tasks._core import Batch, Task
from nextlat_bench.train import micro_batches_of

RATE = 1e11  # floating-point operations a second; no matter which


def test_counts_by_hand() -> None:
    run = path_star.run("gpt", "smoke", 0)
    counted, model = cost(run), build(run)
    assert counted["parameters"] == sum(p.numel() for p in model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    numbers = 2 * counted["parameters"]  # weights and gradients
    for optimizer in make_optimizers(run.training, model):
        optimizer.step()
        moments = [m for state in optimizer.state.values() for m in state.values()]
        numbers += sum(moment.numel() for moment in moments if moment.ndim)  # not Adam's counts
    assert counted["weight_bytes"] == 4 * numbers < 16 * counted["parameters"]
    tokens = sum(int((b.document >= 0).sum()) for b in micro_batches_of(run, 0, "cpu"))
    assert counted["tokens_per_step"] == tokens


@pytest.mark.parametrize(
    ("preset", "setting"),
    [(countdown, "task.num_train=2000"), (language, "task.max_bytes=1200000")],
)
def test_data_that_are_long_in_the_making_are_not_made_for_it(
    preset: ModuleType, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fixed training set, a tokenizer of much text: lighter data have the same counts."""
    run = preset.run("gpt", "smoke", 0).override([setting])
    assert run.task.lighter() != run.task
    with FlopCounterMode(display=False) as products:
        model = build(run)
        for batch in micro_batches_of(run, run.training.steps, "cpu"):
            run.objective.loss(model.decoder, model.extra, batch).total.backward()
    monkeypatch.setattr(type(run.task), "sample", only_of(run.task.lighter()))
    counted = cost(run)
    assert counted["flops_per_step"] == pytest.approx(products.get_total_flops(), rel=0.02)
    assert trial(run, counted, 1e9) is not None


def only_of(task: Task) -> Callable[..., Batch]:
    """A `sample` that no other task than this one may call."""
    real = type(task).sample

    def sample(self: Task, *asked: Any) -> Batch:
        assert self == task
        return real(self, *asked)

    return sample


def test_arithmetic_by_hand() -> None:
    """Forward, for each position of a layer: 8 D^2 of weights in attention and 6 D F in SwiGLU,
    4 T D of states with states, 4 D (D / H) to rotate; where scored, 2 V D in the head. Thrice that
    with the gradients, but twice in rotation, which has no weights; and 4 D for each norm's."""
    run = path_star.run("gpt", "smoke", 0)
    D, H, L = run.decoder.width, run.decoder.heads, run.decoder.layers
    [first, second] = micro_batches_of(run, 0, "cpu")
    positions = first.tokens.numel() + second.tokens.numel()
    scored, T = len(first.scored) + len(second.scored), first.tokens.shape[1]
    layer = 3 * (8 * D * D + 6 * D * swiglu_width(D) + 4 * T * D) + 2 * 4 * D * (D // H)
    norms = (2 * L + 1) * 4 * D
    by_hand = positions * (L * layer + norms) + scored * 3 * 2 * len(run.task.vocab) * D
    assert cost(run)["flops_per_step"] == by_hand


@pytest.mark.parametrize("objective", registry.names("objectives"))
def test_arithmetic_without_weights_is_that_with_them(objective: str) -> None:
    """Heads, rollouts and pairs too; where rows hold several texts, and where they are padded."""
    tasks = (path_star, taxi) if objective in ON_TAXI else (a5, a5)
    padded, packed = (task.run(objective, "smoke", 0) for task in tasks)
    few = dataclasses.replace(packed.training, examples=16, row_length=64, micro_batches=2)
    for run in padded, dataclasses.replace(packed, training=few):
        model = build(run)
        last = run.training.steps  # where cost() looks
        with FlopCounterMode(display=False) as products:
            for batch in micro_batches_of(run, last, "cpu"):
                run.objective.loss(model.decoder, model.extra, batch).total.backward()
        assert cost(run)["flops_per_step"] == products.get_total_flops() > 1e6


def test_the_price_of_a_sweep_is_the_sum_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = ["training.muon_learning_rate=0.01,0.02"]
    runs = cells("a5", "gpt,nextlat", "smoke", 3, settings=[*rates, "objective.horizon=1,2"])
    total = sum(cost(run)["flops_per_step"] * run.training.steps for run in runs)
    counted: list[str] = []

    def counting(run: Run) -> dict[str, float]:
        counted.append(run.id)
        return cost(run)

    monkeypatch.setattr(plan_module, "cost", counting)
    monkeypatch.setattr(plan_module, "matrix_rate", lambda: total / 90)
    plan_module._cost.cache_clear()
    line = price(runs)
    assert line.startswith(f"18 runs to train: {total:.2g} FLOPs")
    assert "here at least 90.0 seconds" in line
    # seeds and rates change no count: GPT, NextLat with one step, with two
    assert len(counted) == 3
    assert price(runs[:1]).startswith("1 run to train: ")


def test_products_inside_other_operations_are_counted() -> None:
    """Outside autograd nothing takes them apart before they are seen."""
    x, w = torch.empty(4, 8, device="meta"), torch.empty(16, 8, device="meta")
    with Products() as products, torch.inference_mode():
        torch.nn.functional.linear(x, w)
        torch.einsum("ij,kj->ik", x, w)
    assert products.flops == 2 * (2 * 4 * 8 * 16)


def test_an_objective_that_reads_its_states_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: GPT, decoder: Decoder, extra: torch.nn.Module, batch: TensorBatch) -> Losses:
        hidden = decoder(*batch.inputs)
        return Losses(hidden.sum() * hidden[0, 0, 0].item(), {}, hidden)

    monkeypatch.setattr(GPT, "loss", loss)
    assert "not counted: gpt: its arithmetic" in price([path_star.run("gpt", "smoke", 0)])
    with pytest.raises(ValueError, match="gpt: its arithmetic cannot be counted, for what it"):
        cost(path_star.run("gpt", "smoke", 0))


def test_a_part_of_the_examples_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations of the whole step, from all of its examples and from a quarter of them, and its
    seconds, by a clock that stands still while others have the core."""
    monkeypatch.setattr(plan_module, "now", lambda device: time.process_time())
    run = path_star.run("nextlat", "smoke", 0).override(["training.precision=fp32"])
    counted = cost(run)
    whole = trial(run, counted, 1e15)
    part = trial(run, counted, counted["flops_per_step"] / plan_module.SECONDS_OF_TRIAL / 4)
    assert whole is not None
    assert part is not None
    assert (whole.examples, part.examples) == (64, 16)
    assert part.activation_bytes == pytest.approx(whole.activation_bytes, rel=0.02)
    assert 1 / 4 < part.seconds_per_step / whole.seconds_per_step < 4


def test_gradients_grow_with_the_examples_and_updates_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock on which a quarter's gradients take 1 s and an update 2 s: 4 + 2 of a step."""
    clock = accumulate(cycle([0.0, 1.0, 2.0]))
    monkeypatch.setattr(plan_module, "now", lambda device: next(clock))
    run = path_star.run("gpt", "smoke", 0)
    counted = cost(run)
    tried = trial(run, counted, counted["flops_per_step"] / plan_module.SECONDS_OF_TRIAL / 4)
    assert tried is not None
    assert (tried.examples, tried.seconds_per_step) == (run.training.examples // 4, 6.0)


def test_more_examples_than_are_sampled_count_in_proportion() -> None:
    run = path_star.run("gpt", "smoke", 0)
    sampled, many = (
        cost(run.override([f"training.examples={n}", "training.micro_batches=1"]))
        for n in (plan_module.SAMPLE, 3 * plan_module.SAMPLE)
    )
    for name in ("tokens_per_step", "positions_per_step", "flops_per_step"):
        assert many[name] == 3 * sampled[name], name
    assert sampled["tokens_per_step"] == plan_module.SAMPLE * run.task.max_length


def test_a_plan_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """1e18 FLOPs a step at 40% of 989 TFLOP/s are 2,528 s, at 1e15 here 1,000 s."""
    run = path_star.run("gpt", "smoke", 0).override(["training.micro_batches=2"])
    run = run.override(["training.steps=36"])
    counted = {"parameters": 3_000, "decoder_parameters": 1_000, "weight_bytes": 48_000}
    counted |= {"tokens_per_step": 750.0, "positions_per_step": 1_000.0, "flops_per_step": 1e18}
    monkeypatch.setattr(plan_module, "cost", lambda run: counted)
    monkeypatch.setattr(plan_module, "matrix_rate", lambda: 1e15)
    tried = plan_module.Trial(2_000.0, 3 * 2**20, 16)
    monkeypatch.setattr(plan_module, "trial", lambda *given: tried)
    view = plan_view(run, "h100")
    rows = dict(zip(*(map(str, column.cells) for column in view.columns), strict=True))
    assert rows["parameters"] == "3,000 (1,000 of them the decoder's)"
    assert rows["tokens"] == "750 a step, 2.7e+04 in all (75% of the positions)"
    assert rows["activations"] == "1.5 MiB for each of 2 micro-batches"
    assert rows["arithmetic"] == "1e+18 FLOPs a step, 3.6e+19 in all"
    assert rows["here, as measured"].startswith("20.0 hours of training: 3 steps of 16 of 64 ")
    assert rows["here, at least"].startswith("10.0 hours at 1,000,000 GFLOP/s")
    assert rows["on one H100"] == "25.3 hours at 40% (assumed) of 989 TFLOP/s"
    assert rows["in its 80 GB"] == "fits"
    counted["weight_bytes"] = 80 * 10**9
    full = [str(cell) for cell in plan_view(run, "h100").columns[1].cells]
    assert any(cell.startswith("its weights alone do not fit") for cell in full)


def test_activations_are_those_of_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short walks leave most of a packed row unused; many do not. Micro-batches share them."""
    run = taxi.run("gpt", "smoke", 0).override(["training.row_length=100", "training.examples=64"])
    counted, found = cost(run), []
    for share, parts in ((1, 1), (16, 1), (16, 4), (32, 1)):
        its = run.override([f"training.micro_batches={parts}"])
        rate = counted["flops_per_step"] / plan_module.SECONDS_OF_TRIAL / share
        tried = trial(its, counted, rate)
        assert tried is not None
        assert tried.examples == max(64 // share, 2 * parts)
        found.append(tried.activation_bytes)
    assert found[1:] == pytest.approx([found[0]] * 3, rel=0.2)


@pytest.mark.parametrize("examples", [4, 6])
def test_micro_batches_of_an_example_or_two_are_tried(examples: int) -> None:
    """Half a step's examples would not fill them."""
    settings = [f"training.examples={examples}", "training.micro_batches=4"]
    run = path_star.run("gpt", "smoke", 0).override(settings)
    tried = trial(run, cost(run), RATE)
    assert tried is not None
    assert tried.examples == examples


def test_what_fits_a_gpu() -> None:
    assert plan_module.fits(80.0, 80.0, 1) == plan_module.fits(160.0, 80.0, 2) == "fits"
    assert "training.micro_batches=3," in plan_module.fits(161.0, 80.0, 2)
    assert "training.micro_batches=2," in plan_module.fits(160.0, 80.0, 1)
    assert "weights alone do not fit" in plan_module.fits(1.0, 0.0, 1)
    assert plan_module.GPU_MEMORY.keys() == plan_module.GPUS.keys()


def test_activations_are_what_autograd_keeps() -> None:
    """y = tanh(x W): x is kept for W's gradient, y for tanh's; the weight itself is not counted."""
    layer = torch.nn.Linear(3, 5, bias=False)
    x = torch.randn(7, 3, requires_grad=True)
    with plan_module.kept_by(layer) as storages:  # type: ignore[arg-type]
        y = layer(x).tanh()
    assert sum(storages.values()) == 4 * (7 * 3 + 7 * 5)
    del y


def test_weights_that_would_fill_the_memory_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    run = path_star.run("gpt", "smoke", 0)
    counted = cost(run)
    monkeypatch.setattr(plan_module, "memory", lambda device: 4 * counted["weight_bytes"] - 1)
    monkeypatch.setattr(plan_module, "build", None)
    assert trial(run, counted, RATE) is None


def test_growing_words_are_tried_at_their_full_length() -> None:
    run = registry.load("presets", "a5").run("gpt", "laptop", 0)
    counted = cost(run)
    tried = trial(run, counted, 1e9)
    assert tried is not None
    whole = trial(run, counted, 1e15)
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


def test_what_does_not_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU its own memory counts, whatever the machine has; where that was wrong, too."""
    asked: list[str] = []

    def memory(device: str) -> int:
        asked.append(device)
        return 0

    run = taxi.run("gpt", "smoke", 0)
    monkeypatch.setattr(plan_module, "chosen_device", lambda device: "cuda")
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "memory", memory)
        assert trial(run, cost(run), RATE) is None
    assert asked == ["cuda"]

    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(plan_module, "matrix_rate", lambda: RATE)
    monkeypatch.setattr(plan_module, "trial", full)
    rows = dict(zip(*(column.cells for column in plan_view(run).columns), strict=True))
    assert str(rows["here"]) == "not tried: it would take too much of the memory"


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
