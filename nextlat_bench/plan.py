"""What a run would take, before it is begun: counted, and a few of its steps measured here."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nextlat_bench.data import step_batches
from nextlat_bench.decoder import count_parameters
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.provenance import chosen_precision, native_bf16
from nextlat_bench.registry import check_name
from nextlat_bench.run import Run
from nextlat_bench.show import facts_table, settings
from nextlat_bench.train import Model, Workers, build, chosen_device, micro_batches_of

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["GPUS", "Trial", "cost", "plan_view", "trial"]

ADAM_BYTES = 4 + 4 + 8  # a weight, its gradient and two moments, float32
SECONDS_OF_TRIAL = 2.0  # of arithmetic in one step tried, at this machine's matrix rate
TRIED_STEPS = 3
MOST_MEMORY = 0.25  # of this machine's, that a trial's weights may take
# Dense bf16 products (fp16 where there is no bf16), TFLOP/s, from NVIDIA's data sheets.
GPUS = {
    "v100": 125, "t4": 65, "a10": 125, "a100": 312, "l4": 121, "l40s": 362, "rtx4090": 165,
    "h100": 989, "h200": 989, "b200": 2250,
}  # fmt: skip
USED = 0.4  # share of a GPU's peak that is assumed; PaLM's training reports 0.46


def cost(run: Run) -> dict[str, float]:
    """What a run takes, counted on weights that are never made.

    parameters, decoder_parameters; tokens_per_step (used ones, of a sample); flops_per_step
    (6 per weight and token, and 12 T D per layer and token for attention: Kaplan et al. 2020,
    Appendix B of PaLM); weight_bytes (weights, gradients and optimiser state in float32).
    """
    with torch.device("meta"):
        model = Model(run)
    training = run.training
    slots = tokens = float(training.examples * run.task.max_length)
    if run.task.at_hand:
        batches = step_batches(run.task, 0, min(training.examples, 1024), training.row_length, 1)
        share = training.examples / min(training.examples, 1024)
        slots = sum(batch.tokens.numel() for batch in batches) * share
        tokens = sum(int((batch.document >= 0).sum()) for batch in batches) * share
    decoder, extra = count_parameters(model.decoder), count_parameters(model.extra)
    applied = getattr(run.objective, "horizon", 1)
    extra_uses = extra * (1 if run.objective.name == "mtp" else applied)  # its heads: one a step
    multiplied = count_parameters(model.decoder, embeddings=False) + extra_uses
    head = len(run.task.vocab) * run.decoder.width
    row_length = training.row_length or run.task.max_length
    attention = 12 * run.decoder.layers * row_length * run.decoder.width
    return {
        "parameters": decoder + extra,
        "decoder_parameters": decoder,
        "tokens_per_step": tokens,
        "positions_per_step": slots,
        "flops_per_step": slots * (6 * (multiplied + head) + attention),
        "weight_bytes": ADAM_BYTES * (decoder + extra),
    }


@dataclass(frozen=True)
class Trial:
    """A few steps on fewer examples, scaled to whole ones."""

    seconds_per_step: float
    activation_bytes: float  # kept by the forward pass for the backward one
    examples: int  # tried


def trial(run: Run, flops_per_step: float, rate: float) -> Trial | None:
    """Times steps of `run` on this machine; None where its weights alone would fill it, or where
    its data are not at hand.

    A step is tried on as many examples as a couple of seconds allow. What the gradients took is
    scaled to all of them; what the optimisers took is the same for any number.
    """
    weight_bytes = cost(run)["weight_bytes"]
    if weight_bytes > MOST_MEMORY * memory() or not run.task.at_hand:
        return None
    parts = run.training.micro_batches
    affordable = run.training.examples * SECONDS_OF_TRIAL * rate / flops_per_step
    examples = min(run.training.examples, max(2 * parts, int(affordable)))
    tried = replace(run, training=replace(run.training, examples=examples))
    last = run.training.steps * run.training.examples // examples  # where examples are longest
    device = chosen_device(None)
    model = build(tried).to(device)
    optimizers = make_optimizers(run.training, model)
    precision = chosen_precision(run.training, device)
    whole, half = (kept(tried, model, last, share, precision, device) for share in (1, 2))
    with Workers(parts, None, device, precision) as workers:
        gradients, updates = [], []
        for step in range(last, last + TRIED_STEPS + 1):
            batches = micro_batches_of(tried, step, device)
            begin = now(device)
            workers.gradients(run.objective, model, batches)
            middle = now(device)
            workers.update(optimizers, 0.0)
            gradients.append(middle - begin)
            updates.append(now(device) - middle)
    share = examples / run.training.examples  # the first step warms up
    seconds = min(gradients[1:]) / share + min(updates[1:])
    left = run.training.examples - examples
    more = (whole - half) / (examples - examples // 2) * left  # what is kept but once cancels out
    return Trial(seconds, whole + more, examples)


def kept(run: Run, model: Model, step: int, share: int, precision: str, device: str) -> int:
    """Bytes that autograd keeps in a step's forward passes with 1 / `share` of its examples."""
    training = replace(run.training, examples=run.training.examples // share or 1)
    total, bf16 = 0, precision == "bf16"
    for batch in micro_batches_of(replace(run, training=training), step * share, device):
        with counted(model) as storages, torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = run.objective.loss(model.decoder, model.extra, batch).total
        total += sum(storages.values())
        del loss
    return total


def now(device: str) -> float:
    """Seconds of a steady clock, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def counted(model: Model) -> Iterator[dict[int, int]]:
    """Bytes by storage of all that autograd keeps meanwhile, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def matrix_rate() -> float:
    """Floating-point operations a second of this machine's matrix products, bf16 where native."""
    device = chosen_device(None)
    kind = torch.bfloat16 if native_bf16(device) else torch.float32
    a = torch.randn(2048, 2048, dtype=kind, device=device)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        (a @ a).sum().item()
        times.append(time.perf_counter() - begin)
    return float(2 * 2048**3 / min(times))


def plan_view(run: Run, gpu: str | None = None) -> "Table":
    """The cost of a run: counted, measured here, and on a GPU of `GPUS` if one is named."""
    if gpu is not None:
        check_name("GPU", gpu, list(GPUS))
    counted = cost(run)
    steps, per_step = run.training.steps, counted["flops_per_step"]
    rate = matrix_rate()
    tried = trial(run, per_step, rate)
    fill = counted["tokens_per_step"] / counted["positions_per_step"]
    facts = {
        "decoder": settings(asdict(run.decoder)),
        "parameters": f"{counted['parameters']:,} ({counted['decoder_parameters']:,} of them "
        "the decoder's)",
        "steps": f"{steps:,}",
        "tokens": f"{counted['tokens_per_step']:,.0f} a step, "
        f"{counted['tokens_per_step'] * steps:.3g} in all ({fill:.0%} of the positions)",
        "weights, gradients, moments": size(counted["weight_bytes"]),
    }
    if tried:
        facts["activations of a step"] = size(tried.activation_bytes)
    facts["arithmetic"] = f"{per_step:.3g} FLOPs a step, {per_step * steps:.3g} in all"
    if tried:
        facts["here, as measured"] = (
            f"{duration(tried.seconds_per_step * steps)} of training: {TRIED_STEPS} steps of "
            f"{tried.examples:,} of {run.training.examples:,} examples were tried"
        )
    else:
        heavy = "its weights would take more than a quarter of the memory"
        facts["here"] = f"not tried: {heavy if run.task.at_hand else 'its data are not at hand'}"
    facts["here, at least"] = (
        f"{duration(per_step * steps / rate)} at {rate / 1e9:,.0f} GFLOP/s of matrix products"
    )
    if gpu is not None:
        peak = GPUS[gpu] * 1e12
        facts[f"on one {gpu.upper()}"] = (
            f"{duration(per_step * steps / (USED * peak))} at {USED:.0%} (assumed) of "
            f"{GPUS[gpu]:,} TFLOP/s"
        )
    return facts_table(f"{run.task.name}, {run.objective.name}, {run.scale} scale", facts)


def size(count: float) -> str:
    """1536 -> 1.5 KiB"""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.3g} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def duration(seconds: float) -> str:
    """5400 -> 90.0 minutes"""
    for unit, length in (("seconds", 60), ("minutes", 60), ("hours", 24)):
        if seconds < 2 * length:
            return f"{seconds:,.1f} {unit}"
        seconds /= length
    return f"{seconds:,.1f} days"
