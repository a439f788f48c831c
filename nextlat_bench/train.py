"""One readable loop: batch, loss, gradients, step, log, checkpoint. It knows no objectives."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from nextlat_bench import parallel, sharding
from nextlat_bench.data import TensorBatch, step_batches
from nextlat_bench.decoder import Block, count_parameters
from nextlat_bench.device import chosen_device
from nextlat_bench.files import named
from nextlat_bench.model import Model, build
from nextlat_bench.objectives._core import Losses, Objective
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.provenance import settle_provenance
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError
from nextlat_bench.tasks._core import check_whole
from nextlat_bench.workers import Workers

__all__ = ["DivergedError", "Progress", "train"]

LOG_EVERY = 10
CHECKPOINT_SECONDS = "NEXTLAT_BENCH_CHECKPOINT_SECONDS"
REST = 20  # from one checkpoint to the next, in units of what it takes to write one


def seconds_between_checkpoints() -> float:
    """45, or what the environment says."""
    text = os.environ.get(CHECKPOINT_SECONDS, "45")
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) < math.inf:
            return seconds
    raise ValueError(f"{CHECKPOINT_SECONDS} = {text!r}: expected a number of seconds, 0 or more")


SECONDS_BETWEEN_CHECKPOINTS = seconds_between_checkpoints()
Checkpoint = tuple[int, dict[str, bytes]]  # its step and its files


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


def train(
    run: Run,
    run_dir: RunDir,
    *,
    device: str | None = None,
    threads: int | None = None,
    compiled: bool = False,
    sharded: bool = False,
    progress: Callable[[Progress], None] | None = None,
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> None:
    """Trains `run` in its folder, going on from its newest checkpoint; returns when trained.

    On a CPU a resumed run equals an uninterrupted one bit for bit, given as many threads. With
    `compiled`, torch.compile fuses the decoder's blocks: other rounding, a minute to begin with.
    Several processes train together where torchrun began them (`nextlat_bench.parallel`), with
    `sharded` each with a part of the blocks' weights (`nextlat_bench.sharding`).
    """
    if threads is not None:
        check_whole("threads", threads, 1)
    leads = parallel.rank() == 0
    if leads:
        run_dir.expect(run)
    if parallel.same(run_dir.is_trained):
        if leads:
            run_dir.remove_checkpoints()  # of which a kill may have left some
        return
    check_processes(run, sharded)
    device = chosen_device(device)
    checkpoint = parallel.same(run_dir.load_checkpoint() if leads else None)
    resumed = checkpoint is not None
    asked = compiled, sharded, resumed, threads
    begun = parallel.same(settle_provenance(run, run_dir, device, *asked) if leads else {})

    model = build(run)
    if begun.get("compiled"):
        for block in model.modules():
            if isinstance(block, Block):
                block.compile()
    first = 0
    if checkpoint is not None:
        with fitting(run_dir):
            first = restore_weights(checkpoint, model)
    if sharded:  # before it moves: no GPU need hold all of it
        sharding.shard(model.decoder.blocks, device)
    model.to(device)
    optimizers = make_optimizers(run.training, model, run.objective.rate_of)
    if checkpoint is not None:
        with fitting(run_dir):
            restore_moments(checkpoint, optimizers)
    if sharded:
        sharding.step_singly(optimizers[0])
    if not resumed:
        save(run_dir, 0, model, optimizers)
    elif leads:
        run_dir.rewind_metrics(first)

    log, tokens_seen = Log(run_dir.metrics if leads else None, device), 0
    clock, took = time.monotonic(), math.inf
    save_at = clock + seconds_between_checkpoints
    parts = run.training.micro_batches
    with Workers(parts, threads, device, begun["precision"], sharded) as workers:
        coming = workers.submit(micro_batches_of, run, first, device)
        for step in range(first, run.training.steps):
            micro_batches = coming.result()
            losses = workers.gradients(run.objective, model, micro_batches)
            if step + 1 < run.training.steps:
                coming = workers.submit(micro_batches_of, run, step + 1, device)
            norm = clip(model, run.training.clip)
            workers.update(optimizers, run.training.rate(step))

            done = step + 1
            with torch.no_grad():
                run.objective.after_step(model.decoder, model.extra, done, run.training.steps)
            tokens_seen += sum(int((b.document >= 0).sum()) for b in micro_batches)
            loss = mean([part.total for part in losses], device)
            if not math.isfinite(loss):
                raise diverged(run_dir, step, loss)
            run_dir.check_locked()
            speed = tokens_seen * parallel.size() / (time.monotonic() - clock)
            if done % LOG_EVERY == 0 or done == run.training.steps:
                log.write(done, loss, losses, norm, run.training.rate(step), speed)
            if progress:
                left = (time.monotonic() - clock) / (done - first) * (run.training.steps - done)
                progress(Progress(done, run.training.steps, loss, speed, left))
            if parallel.same(time.monotonic() >= save_at):
                began = time.monotonic()
                check_finite(model, run_dir, step)
                save(run_dir, done, model, optimizers)
                before, took = took, time.monotonic() - began
                # the less of two: a disk that hung once, or a stop in between, is no measure
                rest = rest_after(min(before, took), seconds_between_checkpoints)
                save_at = time.monotonic() + rest
    check_finite(model, run_dir, run.training.steps - 1)
    facts = {
        "steps": run.training.steps,
        "parameters": count_parameters(model.decoder) + count_parameters(model.extra),
        "parameters_decoder": count_parameters(model.decoder),
        "seconds_since_start_or_resume": round(time.monotonic() - clock, 1),
        "tokens_since_start_or_resume": round(parallel.total(tokens_seen, device)),
    }
    weights = sharding.whole(model.state_dict())
    if leads:
        run_dir.finish_training(safetensors.torch.save(weights), facts)
    parallel.wait()


def rest_after(took: float, seconds: float) -> float:
    """Seconds until the next checkpoint: `seconds`, but longer where one takes long to write, so
    that training has most of the time; 0: after every step."""
    return max(seconds, REST * took) if seconds else 0.0


def check_processes(run: Run, sharded: bool) -> None:
    """Raises a ValueError if the processes there are cannot train the run together."""
    parallel.check_parts(run.training.micro_batches)
    if sharded:
        sharding.check(run.training)
        if type(run.objective).after_step is not Objective.after_step:
            who = run.objective.name
            raise ValueError(f"{who}.after_step reads whole weights: leave out --shard")


def micro_batches_of(run: Run, step: int, device: str) -> list[TensorBatch]:
    """This process's share of a step's micro-batches."""
    training = run.training
    shape = training.examples, training.row_length, training.micro_batches
    return step_batches(run.task, step, *shape, device)


def mean(values: list[Tensor], device: str) -> float:
    """Over all processes, each of which has as many values."""
    summed = sum(float(value.detach()) for value in values)
    return parallel.total(summed, device) / (len(values) * parallel.size())


class Log:
    """metrics.jsonl: appended row by row, so a kill costs at most the last line.

    Without a path, a process only lends its part of the means.
    """

    def __init__(self, path: Path | None, device: str) -> None:
        self.path, self.device = path, device
        if path:
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
        parts = {n: mean([x.parts[n] for x in losses], self.device) for n in losses[0].parts}
        if self.path is None:
            return
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
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if any(sharding.is_sharded(gradient) for gradient in gradients):
        return sharding.clip(gradients, largest)
    if largest is not None:
        return float(nn.utils.clip_grad_norm_(model.parameters(), largest))
    return float(nn.utils.get_total_norm(gradients))


def save(run_dir: RunDir, step: int, model: Model, optimizers: list[torch.optim.Optimizer]) -> None:
    weights = sharding.whole(model.state_dict())
    moments = sharding.whole([optimizer.state_dict() for optimizer in optimizers])
    if parallel.rank():
        return
    state = BytesIO()
    torch.save({"optimizers": moments}, state)
    files = {"model.safetensors": safetensors.torch.save(weights), "state.pt": state.getvalue()}
    run_dir.save_checkpoint(step, files)


@contextmanager
def fitting(run_dir: RunDir) -> Iterator[None]:
    """What does not fit the model, as where a plugin's code has changed since, is a RunDirError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch raises many kinds on a state.pt that it did not write
        raise RunDirError(
            f"the checkpoint in {run_dir.path} does not fit today's model ({str(error)[:300]}): "
            "restore the code that it was begun with, or delete the run folder to start afresh"
        ) from error


def restore_weights(checkpoint: Checkpoint, model: Model) -> int:
    """Puts a checkpoint's weights in place; returns its step."""
    step, files = checkpoint
    model.load_state_dict(safetensors.torch.load(files["model.safetensors"]))
    return step


def restore_moments(checkpoint: Checkpoint, optimizers: list[torch.optim.Optimizer]) -> None:
    content = BytesIO(checkpoint[1]["state.pt"])
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # whose own advice may be to run what code it holds
        raise ValueError(f"state.pt holds no tensors: {type(error).__name__}") from None
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        sharding.cut(optimizer, saved)
        optimizer.load_state_dict(saved)  # which moves each to where its weights are


def check_finite(model: Model, run_dir: RunDir, step: int) -> None:
    """No checkpoint ever holds what a diverged step left behind."""
    bad = sum(not bool(sharding.here(p).isfinite().all()) for p in model.parameters())
    if parallel.total(bad, next(model.parameters()).device.type):  # all of them stop, or none
        raise diverged(run_dir, step, float("nan"))


def diverged(run_dir: RunDir, step: int, loss: float) -> DivergedError:
    if step == 0:
        why = "before any weight has changed: look at the objective's loss and at the task's data"
        return DivergedError(f"the loss is {loss} at step 1, {why}")
    last = max((int(path.name) for path in run_dir.saved()), default=0)
    return DivergedError(
        f"the loss became {loss} at step {step + 1}: lower training.learning_rate or "
        f"training.muon_learning_rate; the last good checkpoint, step {last}, is in {run_dir.path}"
    )
