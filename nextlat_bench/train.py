"""One readable loop: batch, loss, gradients, step, log, checkpoint. It knows no objectives."""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor, nn

from nextlat_bench.data import TensorBatch, step_batches
from nextlat_bench.decoder import Decoder, count_parameters
from nextlat_bench.files import named
from nextlat_bench.objectives._core import Losses, Objective
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError, atomic_write, read_json, to_bytes

__all__ = ["DivergedError", "Model", "Progress", "build", "chosen_device", "train"]

LOG_EVERY = 10
SECONDS_BETWEEN_CHECKPOINTS = float(os.environ.get("NEXTLAT_BENCH_CHECKPOINT_SECONDS", "45"))


class DivergedError(ValueError):
    """The loss is no longer finite; the last good checkpoint is kept."""


@dataclass(frozen=True)
class Progress:
    """What a progress bar is told after each step."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float


class Model(nn.Module):
    """What is trained and saved: the decoder and the objective's extra modules."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        length = max(run.training.row_length or 0, run.task.longest)
        vocab, objective = run.task.vocab, run.objective
        self.decoder: Decoder = objective.decoder(run.decoder, len(vocab), length)
        self.extra: nn.Module = objective.init(run.decoder, vocab.end)


def build(run: Run) -> Model:
    """The model with its initial weights, a function of the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return Model(run)


def train(
    run: Run,
    run_dir: RunDir,
    *,
    device: str | None = None,
    threads: int | None = None,
    compiled: bool = False,
    progress: Callable[[Progress], None] | None = None,
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> None:
    """Trains `run` in its folder, going on from its newest checkpoint; returns when trained.

    On a CPU a resumed run equals an uninterrupted one bit for bit, given as many threads. With
    `compiled`, torch.compile fuses the decoder's blocks: other rounding, a minute to begin with.
    """
    if run_dir.is_trained:
        return
    device = chosen_device(device)
    checkpoint = run_dir.load_checkpoint()
    begun = settle_provenance(run, run_dir, device, compiled, resumed=checkpoint is not None)

    model = build(run).to(device)
    if begun.get("compiled"):
        for block in model.decoder.blocks:
            block.compile()
    optimizers = make_optimizers(run.training, model)
    first = 0
    if checkpoint is not None:
        first = restore(checkpoint, model, optimizers, device)
        run_dir.rewind_metrics(first)
    else:
        save(run_dir, 0, model, optimizers)

    log = Log(run_dir.metrics)
    clock, last_saved, tokens_seen = time.monotonic(), time.monotonic(), 0
    with Workers(run.training.micro_batches, threads, device, begun["precision"]) as workers:
        coming = workers.submit(micro_batches_of, run, first, device)
        for step in range(first, run.training.steps):
            micro_batches = coming.result()
            losses = workers.gradients(run.objective, model, micro_batches)
            coming = workers.submit(micro_batches_of, run, step + 1, device)
            norm = clip(model, run.training.clip)
            workers.update(optimizers, run.training.rate(step))

            done = step + 1
            tokens_seen += sum(int((b.document >= 0).sum()) for b in micro_batches)
            loss = mean([part.total for part in losses])
            if not math.isfinite(loss):
                raise diverged(run_dir, step, loss)
            speed = tokens_seen / (time.monotonic() - clock)
            if done % LOG_EVERY == 0 or done == run.training.steps:
                log.write(done, loss, losses, norm, run.training.rate(step), speed)
            if progress:
                left = (time.monotonic() - clock) / (done - first) * (run.training.steps - done)
                progress(Progress(done, run.training.steps, loss, speed, left))
            if time.monotonic() - last_saved > seconds_between_checkpoints:
                check_finite(model, run_dir, step)
                save(run_dir, done, model, optimizers)
                last_saved = time.monotonic()
    check_finite(model, run_dir, run.training.steps - 1)
    facts = {
        "steps": run.training.steps,
        "parameters": count_parameters(model.decoder) + count_parameters(model.extra),
        "parameters_decoder": count_parameters(model.decoder),
        "seconds_since_start_or_resume": round(time.monotonic() - clock, 1),
        "tokens_since_start_or_resume": tokens_seen,
    }
    run_dir.finish_training(safetensors.torch.save(model.state_dict()), facts)


def micro_batches_of(run: Run, step: int, device: str) -> list[TensorBatch]:
    training = run.training
    shape = training.examples, training.row_length, training.micro_batches
    return step_batches(run.task, step, *shape, device)


class Workers:
    """Gradients of the micro-batches: on a CPU side by side, a thread each, which keeps two cores
    busy where splitting every small operation over them does not."""

    def __init__(self, parts: int, threads: int | None, device: str, precision: str) -> None:
        self.device, self.precision = device, precision
        self.threads_before = torch.get_num_threads()
        threads = threads or self.threads_before
        side_by_side = min(parts, threads) if device == "cpu" else 1
        torch.set_num_threads(max(1, threads // side_by_side))
        self.pool = ThreadPoolExecutor(side_by_side)
        self.submit = self.pool.submit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads_before)

    def gradients(
        self, objective: Objective, model: Model, micro_batches: list[TensorBatch]
    ) -> list[Losses]:
        """Leaves the mean gradient in each parameter's `grad`, added up in a fixed order."""
        parameters = list(model.parameters())

        def work(batch: TensorBatch) -> tuple[Losses, tuple[Tensor | None, ...]]:
            bf16 = self.precision == "bf16"
            # The cache of casts is shared by all threads, so it would tie their graphs together.
            with torch.autocast(self.device, torch.bfloat16, enabled=bf16, cache_enabled=False):
                losses = objective.loss(model.decoder, model.extra, batch)
            return losses, torch.autograd.grad(losses.total, parameters, allow_unused=True)

        results = list(self.pool.map(work, micro_batches))
        for parameter, *parts in zip(parameters, *(g for _, g in results), strict=True):
            given = [part for part in parts if part is not None]
            total = sum(given[1:], given[0]) if given else None
            parameter.grad = total if total is None or len(results) == 1 else total / len(results)
        return [losses for losses, _ in results]

    def update(self, optimizers: list[torch.optim.Optimizer], rate: float) -> None:
        """One step of each at `rate` of its learning rate; they share no parameter."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate
        list(self.pool.map(lambda optimizer: optimizer.step(), optimizers))


def mean(values: list[Tensor]) -> float:
    return sum(float(value.detach()) for value in values) / len(values)


class Log:
    """metrics.jsonl: appended row by row, so a kill costs at most the last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def write(
        self,
        step: int,
        loss: float,
        losses: list[Losses],
        norm: float,
        rate: float,
        tokens_per_second: float,
    ) -> None:
        parts = {name: mean([part.parts[name] for part in losses]) for name in losses[0].parts}
        flat = losses[0].hidden.float().flatten(0, 1)
        row = {
            "step": step,
            "loss": loss,
            **parts,
            # spread of the hidden states over positions: towards 0 they have collapsed
            "latent_std": float(flat.std(dim=0).mean()),
            "gradient_norm": norm,
            "rate": rate,
            "tokens_per_second": round(tokens_per_second),
        }
        with named(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def clip(model: Model, largest: float | None) -> float:
    """The gradient's norm; gradients longer than `largest` are shortened to it."""
    if largest is not None:
        return float(nn.utils.clip_grad_norm_(model.parameters(), largest))
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(nn.utils.get_total_norm(gradients))


def save(run_dir: RunDir, step: int, model: Model, optimizers: list[torch.optim.Optimizer]) -> None:
    state = BytesIO()
    torch.save({"optimizers": [o.state_dict() for o in optimizers], "step": step}, state)
    weights = safetensors.torch.save(model.state_dict())
    run_dir.save_checkpoint(step, {"model.safetensors": weights, "state.pt": state.getvalue()})


def restore(
    checkpoint: tuple[int, dict[str, bytes]],
    model: Model,
    optimizers: list[torch.optim.Optimizer],
    device: str,
) -> int:
    """Puts a checkpoint's state in place; returns its step."""
    step, files = checkpoint
    model.load_state_dict(safetensors.torch.load(files["model.safetensors"]))
    state = torch.load(BytesIO(files["state.pt"]), map_location=device, weights_only=True)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return step


def check_finite(model: Model, run_dir: RunDir, step: int) -> None:
    """No checkpoint ever holds what a diverged step left behind."""
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise diverged(run_dir, step, float("nan"))


def diverged(run_dir: RunDir, step: int, loss: float) -> DivergedError:
    last = int(run_dir.saved()[-1].name)
    return DivergedError(
        f"the loss became {loss} at step {step + 1}: lower training.learning_rate or "
        f"training.muon_learning_rate; the last good checkpoint, step {last}, is in {run_dir.path}"
    )


def chosen_device(device: str | None) -> str:
    """`device`, by default a GPU where there is one; a ValueError if it is not to be had."""
    available = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    if device is not None and device not in available:
        raise ValueError(f"--device {device}: this machine has {' and '.join(available)}")
    return device or available[0]


def native_bf16(device: str) -> bool:
    """bf16 only where the hardware multiplies it natively: emulation is slower than fp32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def settle_provenance(
    run: Run, run_dir: RunDir, device: str, compiled: bool, resumed: bool
) -> dict[str, Any]:
    """Writes where and with what the run is made, once: its precision, fp32 or bf16, and more."""
    native = native_bf16(device)
    precision = run.training.precision
    if precision == "auto":
        precision = "bf16" if native else "fp32"
    if resumed:
        begun = read_json(run_dir.provenance, precision=str)
        if begun["precision"] == "bf16" and not native and run.training.precision == "auto":
            raise RunDirError(
                f"{run_dir.path} was begun in bf16, which {device} here lacks: "
                "finish it where it was begun, or delete the folder to start afresh"
            )
        return begun
    facts: dict[str, Any] = {
        "precision": precision,
        "compiled": compiled,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else cpu_name(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("nextlat-bench", "torch", "numpy", "scipy")},
        "commit": commit(),
        "command": sys.argv,
    }
    atomic_write(run_dir.provenance, to_bytes(facts))
    return facts


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str | None:
    """The source's commit, where it is a git checkout."""
    import subprocess

    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
