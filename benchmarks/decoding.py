"""Tokens a second of greedy decoding, ours and transformers' generate(), with the same weights.

Our decoder's weights are copied into transformers' Llama, so both sides must give the same tokens,
and the share that agrees is printed. Random weights; no token ends a sequence; fp32; one thread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import peers
from benchmarks._core import Section, alternate, one_thread, ratio, shown, spread
from benchmarks.peers import Shape
from nextlat_bench.decoder import Decoder
from nextlat_bench.generate import generate
from nextlat_bench.presets import taxi
from nextlat_bench.tasks._core import IntArray
from nextlat_bench.train import build
from nextlat_bench.trained import TrainedModel

__all__ = ["as_llama", "run"]

BATCHES, NEW, ROUNDS = (1, 32, 256), 50, 5


def as_llama(decoder: Decoder) -> Any:
    """transformers' Llama with the weights of a decoder of ours."""
    config = decoder.config
    shape = Shape(config.layers, config.heads, config.width, 1, decoder.max_length)
    model: Any = peers.llama(shape, decoder.vocab_size)[0]
    state = {
        "model.embed_tokens.weight": decoder.embedding.weight,
        "model.norm.weight": decoder.norm.weight,
        "lm_head.weight": decoder.head.weight,
    }
    for i, block in enumerate(decoder.blocks):
        part: Any = block
        prefix = f"model.layers.{i}."
        for name, weight in zip("qkv", part.attention.qkv.weight.chunk(3), strict=True):
            state[f"{prefix}self_attn.{name}_proj.weight"] = weight
        gate, up = part.gate_up.weight.chunk(2)
        state |= {
            prefix + "self_attn.o_proj.weight": part.attention.out.weight,
            prefix + "mlp.gate_proj.weight": gate,
            prefix + "mlp.up_proj.weight": up,
            prefix + "mlp.down_proj.weight": part.down.weight,
            prefix + "input_layernorm.weight": part.attention_norm.weight,
            prefix + "post_attention_layernorm.weight": part.mlp_norm.weight,
        }
    model.load_state_dict(state)
    model.config.rms_norm_eps = 1e-5
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-5
    return model.eval()


def run() -> list[Section]:
    wanted = taxi.run("gpt").override(["decoder.zero_init_residual=false", "task.max_new=60"])
    model = build(wanted)
    subject, peer = TrainedModel(wanted, model), as_llama(model.decoder)
    prompts = wanted.task.prompts("train", 0, max(BATCHES))
    table = Section(
        f"Greedy decoding of {NEW} tokens: 4 layers, D 128",
        ["batch", "ours, tokens/s", "transformers, tokens/s", "times faster", "same tokens"],
    )
    with one_thread():
        for batch in BATCHES:
            row, facts = compare(subject, peer, prompts[:batch])
            table.add(str(batch), *row)
            table.facts[str(batch)] = facts
    return [table]


def compare(
    subject: TrainedModel, peer: Any, prompts: IntArray
) -> tuple[list[str], dict[str, Any]]:
    ids = torch.from_numpy(prompts)
    out: dict[str, IntArray] = {}

    def ours() -> None:
        out["ours"] = generate(subject, prompts, NEW, end=-1, pad=-1)

    @torch.inference_mode()
    def theirs() -> None:
        tokens = peer.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            do_sample=False,
        )
        out["peer"] = tokens[:, ids.shape[1] :].numpy()

    sides: dict[str, Callable[[], object]] = {"ours": ours, "peer": theirs}
    seconds = alternate(sides, ROUNDS)
    speed = {n: spread(len(prompts) * NEW / s for s in taken) for n, taken in seconds.items()}
    faster = ratio(seconds["peer"], seconds["ours"])
    same = float(np.mean(out["ours"] == out["peer"]))
    row = [shown(speed["ours"], 0), shown(speed["peer"], 0), shown(faster), f"{same:.1%}"]
    return row, {"tokens_per_second": speed, "ratio": faster, "same_tokens": same}
