"""What a user would pick instead, at the sizes of ours: builders of (module, loss of tokens).

Each takes a shape and a vocabulary; a loss takes (B, T + 1) tokens, of which T a row are predicted.
transformers and x-transformers cut the last one off after their decoder has read it: for as many
losses it reads one position more than ours. Peers are imported here alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextlat_bench.decoder import swiglu_width

__all__ = ["Shape", "llama", "nano_gpt", "x_transformers"]

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder and of its batch."""

    layers: int
    heads: int
    width: int
    batch: int
    length: int

    def __str__(self) -> str:
        return f"{self.layers} layers, D {self.width}, B {self.batch}, T {self.length}"


def llama(shape: Shape, vocab: int) -> tuple[nn.Module, Loss]:
    """transformers' Llama: RMSNorm, rotary positions, SwiGLU, no biases, as ours."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab,
            hidden_size=shape.width,
            intermediate_size=swiglu_width(shape.width),
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=2 * shape.length,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )

    def loss(tokens: Tensor) -> Tensor:
        # labels are shifted inside, so T + 1 tokens give T losses
        return model(input_ids=tokens, labels=tokens, use_cache=False).loss  # type: ignore[no-any-return]

    return model, loss


def x_transformers(shape: Shape, vocab: int, horizon: int = 0) -> tuple[nn.Module, Loss]:
    """x-transformers' decoder; with a horizon, inside its next-latent wrapper."""
    from x_transformers import AutoregressiveWrapper, Decoder, NextLatentWrapper, TransformerWrapper

    net = TransformerWrapper(
        num_tokens=vocab,
        max_seq_len=shape.length + 1,
        use_abs_pos_emb=False,
        attn_layers=Decoder(
            dim=shape.width,
            depth=shape.layers,
            heads=shape.heads,
            attn_dim_head=shape.width // shape.heads,
            attn_flash=True,  # F.scaled_dot_product_attention
            rotary_pos_emb=True,
            rotary_emb_dim=shape.width // shape.heads,
            use_rmsnorm=True,
            ff_glu=True,
            ff_swish=True,
            ff_no_bias=True,
            ff_mult=swiglu_width(shape.width) / shape.width,
        ),
    )
    if horizon:
        model: nn.Module = NextLatentWrapper(
            net, dim=shape.width, num_rollouts=horizon, dynamic_rollout_loss_weight=False
        )
    else:
        model = AutoregressiveWrapper(net)
    return model, model


class NanoBlock(nn.Module):
    def __init__(self, shape: Shape, hidden: int) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width, bias=False) for _ in range(2))
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.up = nn.Linear(shape.width, hidden, bias=False)
        self.down = nn.Linear(hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        qkv = self.qkv(self.norms[0](x)).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))  # type: ignore[no-any-return]


class NanoGPT(nn.Module):
    """The textbook decoder: LayerNorm, learnt positions, GELU; as many parameters as ours."""

    def __init__(self, shape: Shape, vocab: int) -> None:
        super().__init__()
        hidden = 3 * swiglu_width(shape.width) // 2  # two matrices instead of three
        self.tokens = nn.Embedding(vocab, shape.width)
        self.positions = nn.Embedding(shape.length, shape.width)
        self.blocks = nn.Sequential(*(NanoBlock(shape, hidden) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        self.head = nn.Linear(shape.width, vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T + 1) -> the mean loss of T predictions."""
        x = self.tokens(tokens[:, :-1]) + self.positions.weight[: tokens.shape[1] - 1]
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def nano_gpt(shape: Shape, vocab: int) -> tuple[nn.Module, Loss]:
    model = NanoGPT(shape, vocab)
    return model, model


def training_step(model: nn.Module, loss: Loss, tokens: Tensor, bf16: bool) -> Callable[[], Tensor]:
    """Loss, gradients, clipping and fused AdamW, as a user writes them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(tokens)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value.detach()

    return step
