"""Tokens a second of greedy decoding, ours and transformers' generate(), with the same weights.

Our decoder's weights are copied into transformers' Llama, so both sides must give the same tokens,
and the share that agrees is printed. The trained laptop-scale taxi model; fp32; one thread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks._core import Section, alternate, one_thread, ratio, shown, spread
from benchmarks.probing import trained
from benchmarks.training import matrix_rates
from nextlat_bench.decoder import Decoder, count_parameters
from nextlat_bench.generate import generate
from nextlat_bench.llama import llama_config, llama_weights
from nextlat_bench.tasks._core import IntArray
from nextlat_bench.trained import TrainedModel

__all__ = ["as_llama", "run"]

BATCHES, NEW, ROUNDS = (1, 32, 256), 50, 5
SHARE = "ours, share of the matrix limit"


def as_llama(decoder: Decoder) -> Any:
    """transformers' Llama with the weights of a decoder of ours."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model: Any = LlamaForCausalLM(LlamaConfig(**llama_config(decoder)))
    model.load_state_dict(llama_weights(decoder))
    return model.eval()


def run() -> list[Section]:
    subject = trained()
    task, peer = subject.run.task, as_llama(subject.model.decoder)
    prompts = task.prompts("test", 0, max(BATCHES))
    table = Section(
        "Greedy decoding: 4 layers, D 128",
        ["batch", "ours, tokens/s", "transformers, tokens/s", "times faster", "same tokens", SHARE],
    )
    work = {f"{batch}, {NEW} tokens a row": (batch, NEW, -1) for batch in BATCHES}
    work[f"{max(BATCHES)}, traversals to their end"] = max(BATCHES), task.max_new, task.vocab.end
    decoder = subject.model.decoder
    used = count_parameters(decoder) - decoder.embedding.weight.numel()  # in matrix products
    with one_thread():
        limit = matrix_rates()["fp32"] * 1e9
        for name, (batch, new, end) in work.items():
            facts = compare(subject, peer, prompts[:batch], new, end)
            speed, same = facts["tokens_per_second"], facts["same_tokens"]
            cells = (shown(speed["ours"], 0), shown(speed["peer"], 0), shown(facts["ratio"]))
            facts["share_of_matrix_limit"] = share = 2 * used * speed["ours"][1] / limit
            table.add(name, *cells, f"{same:.1%}", f"{share:.0%}")
            table.facts[name] = facts
    table.notes.append(
        "Tokens after a row's end do not count. transformers goes on until the last row has ended; "
        "ours drops the rows that have. The share is of this thread's rate in products of "
        "1024 x 1024, for the weights' products with the tokens written alone."
    )
    return [table]


def compare(
    subject: TrainedModel, peer: Any, prompts: IntArray, new: int, end: int
) -> dict[str, Any]:
    """end: the token that closes a row; -1: none does."""
    ids, pad = torch.from_numpy(prompts), subject.run.task.vocab.pad
    out: dict[str, IntArray] = {}

    def ours() -> None:
        out["ours"] = generate(subject, prompts, new, end=end, pad=pad)

    @torch.inference_mode()
    def theirs() -> None:
        tokens = peer.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None if end < 0 else end,
            pad_token_id=pad,
        )
        out["peer"] = tokens[:, ids.shape[1] :].numpy()

    sides: dict[str, Callable[[], object]] = {"ours": ours, "peer": theirs}
    seconds = alternate(sides, ROUNDS)
    useful = int((out["ours"] != pad).sum())
    speed = {n: spread(useful / s for s in taken) for n, taken in seconds.items()}
    return {
        "tokens_per_second": speed,
        "ratio": ratio(seconds["peer"], seconds["ours"]),
        "same_tokens": agreement(out["ours"], out["peer"], pad),
    }


def agreement(ours: IntArray, theirs: IntArray, pad: int) -> float:
    """Of the places where a side has written, the share with the same token. A side that stops
    sooner has written nothing more."""
    width = max(ours.shape[1], theirs.shape[1])
    a, b = (
        np.pad(side, ((0, 0), (0, width - side.shape[1])), constant_values=pad)
        for side in (ours, theirs)
    )
    written = (a != pad) | (b != pad)
    return float(np.mean(a[written] == b[written]))
