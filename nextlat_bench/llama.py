"""Our decoder as transformers' Llama, whose architecture it has: the same logits, other names."""

from typing import Any, cast

from torch import Tensor

from nextlat_bench.decoder import NORM_EPS, ROPE_BASE, Block, Decoder, swiglu_width
from nextlat_bench.objectives._core import Objective

__all__ = ["check_plain", "llama_config", "llama_weights"]


def check_plain(objective: Objective) -> None:
    """A ValueError unless the objective answers by the plain decoder's own head, as GPT does."""
    kind = type(objective)
    answers = kind.decoder, kind.hidden, kind.logits
    if answers != (Objective.decoder, Objective.hidden, Objective.logits):
        raise ValueError(f"{kind.name} does not answer as a plain decoder: it cannot be a Llama")


def llama_config(decoder: Decoder) -> dict[str, Any]:
    """Its config.json."""
    sizes = decoder.config
    if sizes.mark_start:
        raise ValueError("a Llama adds nothing to first tokens: it cannot have decoder.mark_start")
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": decoder.vocab_size,
        "hidden_size": sizes.width,
        "intermediate_size": swiglu_width(sizes.width),
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "max_position_embeddings": decoder.max_length,
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "tie_word_embeddings": False,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
        "dtype": "float32",
    }


def llama_weights(decoder: Decoder) -> dict[str, Tensor]:
    """Its weights, by their names there."""
    found = {
        "model.embed_tokens": decoder.embedding.weight,
        "model.norm": decoder.norm.weight,
        "lm_head": decoder.head.weight,
    }
    for i, block in enumerate(decoder.blocks):
        part, prefix = cast(Block, block), f"model.layers.{i}."
        q, k, v = part.attention.qkv.weight.chunk(3)
        gate, up = part.gate_up.weight.chunk(2)
        its = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v}
        its |= {"self_attn.o_proj": part.attention.out.weight}
        its |= {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": part.down.weight}
        its |= {"input_layernorm": part.attention_norm.weight}
        its |= {"post_attention_layernorm": part.mlp_norm.weight}
        found |= {prefix + name: weight for name, weight in its.items()}
    return {f"{name}.weight": weight.detach().contiguous() for name, weight in found.items()}
