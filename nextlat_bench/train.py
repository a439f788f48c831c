"""One readable loop: batch, loss, gradients, step, log, checkpoint. It knows no objectives."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import safetensors.torch
import torch
from torch import Tensor, nn

from nextlat_bench import parallel, sharding
from nextlat_bench.data import TensorBatch, step_batches
from nextlat_bench.decoder import Decoder, count_parameters
from nextlat_bench.files import named
from nextlat_bench.objectives._core import Losses, Objective
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.provenance import settle_provenance
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError

__all__ = ["DivergedError", "Model", "Progress", "build", "chosen_device", "train"]

LOG_EVERY = 10
CHECKPOINT_SECONDS = "NEXTLAT_BENCH_CHECKPOINT_SECONDS"


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


class Model(nn.Module):
    """What is trained and saved: the decoder and the objective's extra modules."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        length = max(run.training.row_length or 0, run.task.longest)
        vocab, objective = run.task.vocab, run.objective
        self.decoder: Decoder = objective.decoder(run.decoder, len(vocab), length)
        self.extra: nn.Module = objective.init(run.decoder, vocab.end)
        if not isinstance(self.extra, nn.Module):
            what = type(self.extra).__name__
            raise ValueError(f"{objective.name}.init gave a {what}: expected a torch.nn.Module")


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
    if parallel.same(run_dir.is_trained):
        return
    check_processes(run, sharded)
    device, leads = chosen_device(device), parallel.rank() == 0
    checkpoint = parallel.same(run_dir.load_checkpoint() if leads else None)
    resumed = checkpoint is not None
    asked = compiled, sharded, resumed, threads
    begun = parallel.same(settle_provenance(run, run_dir, device, *asked) if leads else {})

    model = build(run).to(device)
    if begun.get("compiled"):
        for block in model.decoder.blocks:
            block.compile()
    first = 0
    if checkpoint is not None:
        with fitting(run_dir):
            first = restore_weights(checkpoint, model)
    if sharded:
        sharding.shard(model.decoder.blocks)
    optimizers = make_optimizers(run.training, model)
    if checkpoint is not None:
        with fitting(run_dir):
            restore_moments(checkpoint, optimizers, device)
    if sharded:
        sharding.spread(optimizers[0])
    if not resumed:
        save(run_dir, 0, model, optimizers)
    elif leads:
        run_dir.rewind_metrics(first)

    log, tokens_seen = Log(run_dir.metrics if leads else None, device), 0
    clock = last_saved = time.monotonic()
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
            tokens_seen += sum(int((b.document >= 0).sum()) for b in micro_batches)
            loss = mean([part.total for part in losses], device)
            if not math.isfinite(loss):
                raise diverged(run_dir, step, loss)
            speed = tokens_seen * parallel.size() / (time.monotonic() - clock)
            if done % LOG_EVERY == 0 or done == run.training.steps:
                log.write(done, loss, losses, norm, run.training.rate(step), speed)
            if progress:
                left = (time.monotonic() - clock) / (done - first) * (run.training.steps - done)
                progress(Progress(done, run.training.steps, loss, speed, left))
            if parallel.same(time.monotonic() - last_saved > seconds_between_checkpoints):
                check_finite(model, run_dir, step)
                save(run_dir, done, model, optimizers)
                last_saved = time.monotonic()
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


def check_processes(run: Run, sharded: bool) -> None:
    """Raises a ValueError if the processes there are cannot train the run together."""
    parallel.check_parts(run.training.micro_batches)
    if sharded:
        sharding.check(run.training)


def micro_batches_of(run: Run, step: int, device: str) -> list[TensorBatch]:
    """This process's share of a step's micro-batches."""
    training = run.training
    shape = training.examples, training.row_length, training.micro_batches
    return parallel.own(step_batches(run.task, step, *shape, device))


class Workers:
    """Gradients of the micro-batches: on a CPU side by side, a thread each, which keeps two cores
    busy where splitting every small operation over them does not."""

    def __init__(
        self, parts: int, threads: int | None, device: str, precision: str, sharded: bool = False
    ) -> None:
        self.device, self.precision, self.sharded = device, precision, sharded
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
        """Leaves the mean gradient over all processes' micro-batches in each parameter's `grad`,
        added up in a fixed order; returns this process's losses."""
        parameters = list(model.parameters())
        if self.sharded:
            return self.sharded_gradients(objective, model, micro_batches)

        def work(batch: TensorBatch) -> tuple[Losses, tuple[Tensor | None, ...]]:
            losses = self.losses(objective, model, batch)
            return losses, torch.autograd.grad(losses.total, parameters, allow_unused=True)

        results = list(self.pool.map(work, micro_batches))
        sums: list[Tensor | None] = []
        for parts in zip(*(gradients for _, gradients in results), strict=True):
            given = [part for part in parts if part is not None]
            sums.append(sum(given[1:], given[0]) if given else None)
        sums = parallel.add_gradients(parameters, sums)
        count = len(results) * parallel.size()
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = total if total is None or count == 1 else total / count
        return [losses for losses, _ in results]

    def losses(self, objective: Objective, model: Model, batch: TensorBatch) -> Losses:
        bf16 = self.precision == "bf16"
        # The cache of casts is shared by all threads, so it would tie their graphs together.
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16, cache_enabled=False):
            losses = objective.loss(model.decoder, model.extra, batch)
        who = f"{objective.name}.loss gave"  # in case it is somebody's own
        if not isinstance(losses, Losses):
            raise ValueError(f"{who} a {type(losses).__name__}: expected Losses")
        for name, value in {"total": losses.total, **losses.parts}.items():
            if not isinstance(value, Tensor) or value.ndim:
                raise ValueError(f"{who} for {name} what is no tensor of one number")
            if name in COLUMNS:
                raise ValueError(f"{who} a part called {name!r}, which the log has already")
        if not isinstance(losses.hidden, Tensor):
            raise ValueError(f"{who} a {type(losses.hidden).__name__} as its hidden states")
        if not losses.total.requires_grad:
            raise ValueError(f"{who} a total that no weight changes: it cannot be minimised")
        return losses

    def sharded_gradients(
        self, objective: Objective, model: Model, micro_batches: list[TensorBatch]
    ) -> list[Losses]:
        """The same where FSDP has averaged the blocks' gradients over the processes already."""
        model.zero_grad()
        found = []
        for batch in micro_batches:
            found.append(self.losses(objective, model, batch))
            found[-1].total.backward()  # type: ignore[no-untyped-call]
        kept_whole = [p for p in model.parameters() if not sharding.is_sharded(p)]
        sums = parallel.add_gradients(kept_whole, [p.grad for p in kept_whole])
        for parameter, total in zip(kept_whole, sums, strict=True):
            parameter.grad = None if total is None else total / parallel.size()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= len(micro_batches)
        return found

    def update(self, optimizers: list[torch.optim.Optimizer], rate: float) -> None:
        """One step of each at `rate` of its learning rate; they share no parameter."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate
        list(self.pool.map(lambda optimizer: optimizer.step(), optimizers))


def mean(values: list[Tensor], device: str) -> float:
    """Over all processes, each of which has as many values."""
    summed = sum(float(value.detach()) for value in values)
    return parallel.total(summed, device) / (len(values) * parallel.size())


# of metrics.jsonl, beside an objective's own parts of the loss
COLUMNS = ("step", "loss", "latent_std", "gradient_norm", "rate", "tokens_per_second")


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
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise RunDirError(
            f"the checkpoint in {run_dir.path} does not fit today's model ({str(error)[:300]}): "
            "restore the code that it was begun with, or delete the run folder to start afresh"
        ) from error


def restore_weights(checkpoint: Checkpoint, model: Model) -> int:
    """Puts a checkpoint's weights in place; returns its step."""
    step, files = checkpoint
    model.load_state_dict(safetensors.torch.load(files["model.safetensors"]))
    return step


def restore_moments(
    checkpoint: Checkpoint, optimizers: list[torch.optim.Optimizer], device: str
) -> None:
    content = BytesIO(checkpoint[1]["state.pt"])
    state = torch.load(content, map_location=device, weights_only=True)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)


def check_finite(model: Model, run_dir: RunDir, step: int) -> None:
    """No checkpoint ever holds what a diverged step left behind."""
    if not all(bool(sharding.here(p).isfinite().all()) for p in model.parameters()):
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


def chosen_device(device: str | None) -> str:
    """`device`, by default a GPU where there is one; a ValueError if it is not to be had."""
    available = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    if device is not None and device not in available:
        raise ValueError(f"--device {device}: this machine has {' and '.join(available)}")
    return device or available[0]
