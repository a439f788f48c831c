"""What a run would take, before it is begun: counted, and a few of its steps measured here."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from nextlat_bench.data import TensorBatch, step_batches
from nextlat_bench.decoder import count_parameters
from nextlat_bench.device import chosen_device, chosen_precision, native_bf16
from nextlat_bench.model import Model, build
from nextlat_bench.optimizers import make_optimizers, takes_muon
from nextlat_bench.registry import check_name
from nextlat_bench.run import Run, Training
from nextlat_bench.show import facts_table, settings
from nextlat_bench.tasks._core import Task
from nextlat_bench.train import micro_batches_of
from nextlat_bench.workers import Workers

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["GPUS", "Trial", "cost", "counts", "plan_view", "sweep_line", "trial"]

SAMPLE = 1_024  # examples, at most, that stand for a step's
FULL = 8  # of those that are not at hand
ADAM_BYTES = 4 + 4 + 8  # a weight, its gradient and two moments, float32
MUON_BYTES = 4 + 4 + 4  # of which Muon has one
FROZEN_BYTES = 4  # a weight that no step trains
SECONDS_OF_TRIAL = 2.0  # of arithmetic in one step tried, at this machine's matrix rate
TRIED_STEPS = 3
MOST_MEMORY = 0.25  # of this machine's, that a trial's weights may take
# Dense bf16 products (fp16 where there is no bf16), TFLOP/s, from NVIDIA's data sheets.
GPUS = {
    "v100": 125, "t4": 65, "a10": 125, "a100": 312, "l4": 121, "l40s": 362, "rtx4090": 165,
    "h100": 989, "h200": 989, "b200": 2250,
}  # fmt: skip
# The least memory that it is sold with, in 10**9 bytes, from the same.
GPU_MEMORY = {
    "v100": 16, "t4": 16, "a10": 24, "a100": 40, "l4": 24, "l40s": 48, "rtx4090": 24,
    "h100": 80, "h200": 141, "b200": 180,
}  # fmt: skip
ASSUMED_MEMORY = 8 * 10**9  # of a machine that does not say it
USED = 0.4  # share of a GPU's peak that is assumed; PaLM's training reports 0.46


def cost(run: Run) -> dict[str, float]:
    """What a run takes, counted on weights that are never made.

    parameters, decoder_parameters; tokens_per_step (used ones) and positions_per_step, of a sample;
    flops_per_step (every matrix product of that sample's losses and gradients, two for each
    multiplication and addition; not the optimiser's); weight_bytes (weights, gradients and
    optimiser state in float32).
    """
    run = replace(run, task=run.task.lighter())
    with torch.device("meta"):
        model = Model(run)
    training = run.training
    if run.task.at_hand:
        examples = min(training.examples, SAMPLE)
        share = training.examples / examples
        parts = max(1, round(training.micro_batches / share))
        longest = training.steps * training.examples // examples
        batches = step_batches(run.task, longest, examples, training.row_length, parts)
    else:
        share = run.training.examples / FULL
        batches = [full(run.task)]
    decoder, extra = count_parameters(model.decoder), count_parameters(model.extra)
    return {
        "parameters": decoder + extra,
        "decoder_parameters": decoder,
        "tokens_per_step": sum(int((b.document >= 0).sum()) for b in batches) * share,
        "positions_per_step": sum(b.tokens.numel() for b in batches) * share,
        "flops_per_step": arithmetic(run, model, batches) * share,
        "weight_bytes": sum(
            weight.numel() * bytes_each(training, name, weight)
            for name, weight in model.named_parameters()
        ),
    }


def bytes_each(training: Training, name: str, weight: Tensor) -> int:
    """Of a number in a parameter of this name: itself and what training it takes."""
    if not weight.requires_grad:
        return FROZEN_BYTES
    return MUON_BYTES if takes_muon(training, name, weight) else ADAM_BYTES


def full(task: Task) -> TensorBatch:
    """Texts that are not at hand: one to a row, each as long as the task allows."""
    shape = FULL, task.max_length
    tokens = (torch.arange(FULL * task.max_length) % len(task.vocab)).view(shape)
    document, position = torch.zeros_like(tokens), torch.arange(task.max_length).expand(shape)
    scored = torch.arange(tokens.numel())
    return TensorBatch(tokens, tokens, document, position, scored, packed=False)


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the matrix products, two floating-point operations for each multiplication and
    addition, by PyTorch's own formulas. Its own counter asks every operation every time whether it
    can be taken apart, which is half of its time.

    Whatever meets a tensor without data loses its own: what is computed of weights that were
    never made is shapes alone, while positions, masks and pairs are counted for true."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.formulas = FlopCounterMode(display=False).flop_registry
        self.whole: set[Any] = set()  # what cannot be taken apart

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = list(args), kwargs or {}
        met = {leaf.is_meta for leaf in tree_leaves(given) if isinstance(leaf, Tensor)}
        if len(met) == 2:
            if func.overloadpacket is torch.ops.aten.index:
                given[0][1] = [at for index in args[1] for at in unmasked(index)]
            given = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), given)
        if func.overloadpacket not in self.formulas and func not in self.whole:
            with self:
                result = func.decompose(*given[0], **given[1])
            if result is not NotImplemented:
                return result
            self.whole.add(func)
        result = func(*given[0], **given[1])
        if formula := self.formulas.get(func.overloadpacket):
            self.flops += formula(*given[0], **given[1], out_val=result)
        return result


def unmasked(index: Tensor | None) -> tuple[Tensor | None, ...]:
    """A mask picks as many as it has; without its data that is not known."""
    if index is None or index.dtype != torch.bool or index.is_meta:
        return (index,)
    return index.nonzero().unbind(1)


def arithmetic(run: Run, model: Model, batches: list[TensorBatch]) -> float:
    """Floating-point operations of the matrix products of the losses and their gradients."""
    with Products() as products:
        for batch in batches:
            try:
                run.objective.loss(model.decoder, model.extra, batch).total.backward()
            except RuntimeError as error:
                raise ValueError(
                    f"{run.objective.name}: its arithmetic cannot be counted, for what it computes "
                    f"depends on the values of its states: {str(error).splitlines()[0][:200]}"
                ) from error
    return float(products.flops)


@dataclass(frozen=True)
class Trial:
    """A few steps on fewer examples, scaled to whole ones."""

    seconds_per_step: float
    activation_bytes: float  # kept by the forward pass for the backward one
    examples: int  # tried


def trial(run: Run, counted: Mapping[str, float], rate: float) -> Trial | None:
    """Times steps of `run`, whose `cost` is known, on this machine; None where its weights alone
    would fill it, or where its data are not at hand.

    A step is tried on as many examples as a couple of seconds allow. What the gradients took is
    scaled to all of them; what the optimisers took is the same for any number. What is kept grows
    with the positions, of which a few examples may leave more unused than many do.
    """
    device = chosen_device(None)
    if counted["weight_bytes"] > MOST_MEMORY * memory(device) or not run.task.at_hand:
        return None
    run, parts = replace(run, task=run.task.lighter()), run.training.micro_batches
    affordable = run.training.examples * SECONDS_OF_TRIAL * rate / counted["flops_per_step"]
    examples = min(run.training.examples, max(2 * parts, int(affordable)))
    tried = replace(run, training=replace(run.training, examples=examples))
    last = run.training.steps * run.training.examples // examples  # where examples are longest
    model = build(tried).to(device)
    optimizers = make_optimizers(run.training, model, run.objective.rate_of)
    precision = chosen_precision(run.training, device)
    with Workers(parts, None, device, precision) as workers:
        (whole, some), (half, fewer) = (kept(tried, model, last, n, workers) for n in (1, 2))
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
    each = (whole - half) / (some - fewer) if some > fewer else whole / some  # without constants
    return Trial(seconds, whole + each * (counted["positions_per_step"] - some), examples)


def kept(run: Run, model: Model, step: int, share: int, workers: Workers) -> tuple[int, int]:
    """Bytes that autograd keeps in a step's forward passes with 1 / `share` of its examples, and
    the positions of these."""
    fewer = max(run.training.micro_batches, run.training.examples // share)
    training = replace(run.training, examples=fewer)
    total = count = 0
    for batch in micro_batches_of(replace(run, training=training), step * share, workers.device):
        with kept_by(model) as storages:
            loss = workers.losses(run.objective, model, batch).total
        total += sum(storages.values())
        count += batch.tokens.numel()
        del loss
    return total, count


def now(device: str) -> float:
    """Seconds of a steady clock, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def kept_by(model: Model) -> Iterator[dict[int, int]]:
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


def memory(device: str) -> int:
    """Bytes of this machine's memory, or of its GPU's."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[1]
    if not hasattr(os, "sysconf"):  # Windows
        return ASSUMED_MEMORY
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


@cache
def _cost(run: Run) -> dict[str, float]:
    return cost(run)


def counts(run: Run) -> dict[str, float]:
    """Its `cost`, counted once for all runs that differ in what changes no count: seed and rate."""
    training = replace(run.training, learning_rate=1, muon_learning_rate=1)
    return _cost(replace(run, task=run.task.lighter(), training=training, seed=0))


def sweep_line(runs: list[Run]) -> str:
    """What the training of all of them takes, before any is begun."""
    total = sum(counts(run)["flops_per_step"] * run.training.steps for run in runs)
    what = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} to train"
    return (
        f"{what}: {total:.2g} FLOPs of matrix products, here at least "
        f"{duration(total / matrix_rate())} (as measured: nextlat-bench plan)"
    )


def plan_view(run: Run, gpu: str | None = None) -> "Table":
    """The cost of a run: counted, measured here, and on a GPU of `GPUS` if one is named."""
    if gpu is not None:
        gpu = check_name("GPU", gpu.lower(), list(GPUS))
    counted = cost(run)
    steps, per_step = run.training.steps, counted["flops_per_step"]
    rate = matrix_rate()
    try:
        tried = trial(run, counted, rate)
    except torch.OutOfMemoryError:
        tried = None
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
    parts = run.training.micro_batches
    if tried:
        each = f" for each of {parts} micro-batches" * (parts > 1)
        facts["activations"] = f"{size(tried.activation_bytes / parts)}{each}"
    facts["arithmetic"] = f"{per_step:.3g} FLOPs a step, {per_step * steps:.3g} in all"
    if tried:
        facts["here, as measured"] = (
            f"{duration(tried.seconds_per_step * steps)} of training: {TRIED_STEPS} steps of "
            f"{tried.examples:,} of {run.training.examples:,} examples were tried"
        )
    else:
        heavy = "it would take too much of the memory"
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
        if tried:
            room = GPU_MEMORY[gpu] * 10**9 - counted["weight_bytes"]
            facts[f"in its {GPU_MEMORY[gpu]} GB"] = fits(tried.activation_bytes, room, parts)
    return facts_table(f"{run.task.name}, {run.objective.name}, {run.scale} scale", facts)


def fits(activations: float, room: float, parts: int) -> str:
    """In words: do a micro-batch's activations fit beside the weights, or how many would?"""
    if room <= 0:
        return "its weights alone do not fit: see --shard"
    if activations / parts <= room:
        return "fits"
    least = -int(-activations // room)
    return f"does not fit: add --set training.micro_batches={least}, or a number above it"


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
