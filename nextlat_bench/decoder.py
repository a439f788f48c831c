"""One causal transformer: tokens -> hidden states, hidden states -> logits. It knows no losses.

Pre-norm, RMSNorm, rotary positions, SwiGLU, no biases, untied embedding and head
(Llama's recipe; NextLat, arXiv 2511.05963, section 4). Documents packed into one row do not see
each other, and positions restart in each.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextlat_bench import kernels
from nextlat_bench.run import DecoderConfig

__all__ = ["Attended", "Block", "Decoder", "KeyValueCache", "RMSNorm", "RaggedCache"]
__all__ += ["count_parameters", "trained_parameters"]

ROPE_BASE = 10_000.0
NORM_EPS = 1e-5
# Below this many keys the CPU's fused bf16 attention is slower than three plain operations.
EXPLICIT_ATTENTION_LIMIT = 128
# Positions that a cache grows by: in a roomier one, what is read lies scattered, which costs more
# than the copies.
GROWTH = 4


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last dimension, computed in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return kernels.rms_norm(x, self.weight, NORM_EPS)


def swiglu_width(width: int) -> int:
    """128 * round((8D/3) / 128), never under 128."""
    return 128 * max(1, round(8 * width / 3 / 128))


class KeyValueCache:
    """Keys and values of what n sequences have read: (n, H, capacity, D/H) buffers a layer, grown
    by a few positions when they are full. A recurrent network keeps its `state` here instead."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.lengths: list[int] = []  # of each layer
        self.state: Tensor | None = None  # (layers, n, D)

    @property
    def length(self) -> int:
        return self.lengths[0] if self.lengths else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Adds (n, H, T, D/H) keys and values; returns those of all positions so far."""
        if layer == len(self.keys):
            self.keys.append(k[:, :, :0])
            self.values.append(v[:, :, :0])
            self.lengths.append(0)
        begin, end = self.lengths[layer], self.lengths[layer] + k.shape[2]
        self.lengths[layer] = end
        for buffers, new in ((self.keys, k), (self.values, v)):
            if end > buffers[layer].shape[2]:
                room = -(-end // GROWTH) * GROWTH
                grown = new.new_empty(*new.shape[:2], room, new.shape[3])
                grown[:, :, :begin] = buffers[layer][:, :, :begin]
                buffers[layer] = grown
            buffers[layer][:, :, begin:end] = new
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def select(self, rows: Tensor) -> "KeyValueCache":
        """The cache of these sequences, in this order; the buffers keep no spare room."""
        chosen = type(self)()
        chosen.lengths = list(self.lengths)
        chosen.keys = [k[:, :, : self.length][rows] for k in self.keys]
        chosen.values = [v[:, :, : self.length][rows] for v in self.values]
        chosen.state = None if self.state is None else self.state[:, rows]
        return chosen


class RaggedCache(KeyValueCache):
    """Rows that have read different numbers of tokens: a token's key lies in the slot of its
    position, and a query looks at no slot beyond its own. What a row has to forget is written over
    before any query may look at it, so going back takes nothing but lower positions."""

    def expect(self, position: Tensor) -> None:
        """(n, T): where the tokens that are read next stand."""
        self.position, self.end = position, int(position.max()) + 1

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if layer == len(self.keys):
            self.keys.append(k[:, :, :0])
            self.values.append(v[:, :, :0])
            self.lengths.append(0)
        row, end = torch.arange(len(k), device=k.device)[:, None], self.end
        for buffers, new in ((self.keys, k), (self.values, v)):
            room = buffers[layer].shape[2]
            if end > room:  # with zeros, since what is not a number would show through the mask
                buffers[layer] = F.pad(buffers[layer], (0, 0, 0, -(-end // GROWTH) * GROWTH - room))
            buffers[layer][row, :, self.position] = new.transpose(1, 2)
        self.lengths[layer] = end
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


@dataclass(frozen=True)
class Attended:
    """What all layers share: the rotation of each position and who may look at whom."""

    cos: Tensor  # (B or 1, T, 1, 1, D/H): one rotation for queries and keys of all heads
    sin: Tensor
    turn: Tensor  # (D/H, D/H)
    mask: Tensor | None  # (B or 1, 1, T, keys) added to scores; None: causal, or one query


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self, x: Tensor, attended: Attended, cache: KeyValueCache | None, layer: int
    ) -> Tensor:
        B, T, D = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = kernels.rotated(qkv, attended.cos, attended.sin, attended.turn)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        y = attend(q, k, v, attended.mask)
        return self.out(y.transpose(1, 2).reshape(B, T, D))  # type: ignore[no-any-return]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v, (B, H, T, d); `mask` None: causal over equal lengths, and
    one query alone looks at all keys."""
    causal = mask is None and q.shape[2] > 1
    if q.device.type != "cpu" or k.shape[2] > EXPLICIT_ATTENTION_LIMIT:
        mask = mask if mask is None else mask.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
    if causal:
        mask = added_to_scores(causal_mask(q.shape[2], q.device))
    if mask is not None:
        scores = scores + mask.to(q.dtype)
    return scores.softmax(dim=-1).to(v.dtype) @ v


def added_to_scores(may_look: Tensor) -> Tensor:
    """In the precision of scores, so that one serves all layers, which keep it for their gradients.
    A finite floor: a padding row that may look at nobody must not turn into nan."""
    kind = may_look.device.type
    mixed = kind != "meta" and torch.is_autocast_enabled(kind)  # what has no data has no precision
    dtype = torch.get_autocast_dtype(kind) if mixed else torch.float32
    return torch.where(may_look, 0.0, -1e9).to(dtype)


def causal_mask(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class Block(nn.Module):
    """x + attention(norm(x)), then + SwiGLU(norm(.))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        hidden = swiglu_width(config.width)
        self.attention_norm = RMSNorm(config.width)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.gate_up = nn.Linear(config.width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, config.width, bias=False)

    def forward(
        self, x: Tensor, attended: Attended, cache: KeyValueCache | None = None, layer: int = 0
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), attended, cache, layer)
        return x + self.down(kernels.swiglu(self.gate_up(self.mlp_norm(x))))  # type: ignore[no-any-return]

    def zero_residual(self) -> None:
        """Starts as the identity: both output projections are zero."""
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.down.weight)


class Decoder(nn.Module):
    """`hidden = decoder(tokens)`, after the final norm; `logits = decoder.head(hidden)`.

    Rotary positions tell how far apart two tokens are, and equal tokens have equal values, whatever
    weight each gets: unless `mark_start`, the states after g, g g, g g g ... are the same state.
    """

    rotations: Tensor
    turn: Tensor

    def __init__(self, config: DecoderConfig, vocab_size: int, max_length: int) -> None:
        super().__init__()
        self.config, self.vocab_size, self.max_length = config, vocab_size, max_length
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        d = config.width // config.heads
        frequency = ROPE_BASE ** (-torch.arange(0, d, 2, dtype=torch.float32) / d)
        angle = torch.outer(torch.arange(max_length, dtype=torch.float32), frequency)
        angle = torch.cat([angle, angle], dim=-1)  # (max_length, D/H)
        self.register_buffer("rotations", torch.stack([angle.cos(), angle.sin()]), persistent=False)
        self.register_buffer("turn", kernels.quarter_turn(d), persistent=False)
        initialise(self, config.zero_init_residual)
        if config.mark_start:
            self.start = nn.Parameter(torch.empty(config.width).normal_(std=0.02))

    def attended(
        self, length: int, past: int, document: Tensor | None, position: Tensor | None
    ) -> Attended:
        """Rotations and mask for `length` new positions after `past` cached ones."""
        device = self.rotations.device
        if past + length > self.max_length and position is None:
            raise ValueError(
                f"{past + length} positions asked of a decoder built for {self.max_length}"
            )
        at = (None, slice(past, past + length)) if position is None else (position,)
        cos, sin = self.rotations[:, *at][:, :, :, None, None]  # each (B or 1, T, 1, 1, D/H)
        mask = None
        if document is not None:
            same = document[:, :, None] == document[:, None, :]  # (B, T, T)
            mask = (same & causal_mask(length, device)).unsqueeze(1)
        elif position is not None:  # a RaggedCache's
            slots = torch.arange(int(position.max()) + 1, device=device)
            mask = (slots <= position[:, :, None]).unsqueeze(1)  # (B, 1, T, slots)
        elif past and length > 1:
            keys = torch.arange(past + length, device=device)
            mask = (keys[None, :] <= keys[past:, None])[None, None]  # (1, 1, T, keys)
        return Attended(cos, sin, self.turn, mask if mask is None else added_to_scores(mask))

    def trunk(
        self,
        tokens: Tensor,
        document: Tensor | None = None,
        position: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layers: int | None = None,
    ) -> tuple[Tensor, Attended]:
        """(B, T) -> (B, T, D) before the final norm, after the first `layers` blocks."""
        past = cache.length if cache is not None else 0
        attended = self.attended(tokens.shape[1], past, document, position)
        x = self.embedding(tokens)
        if self.config.mark_start:
            at = torch.arange(past, past + tokens.shape[1], device=x.device)
            x = x + (at if position is None else position).eq(0)[..., None] * self.start
        for i, block in enumerate(self.blocks[:layers]):
            x = block(x, attended, cache, i)
        return x, attended

    def forward(
        self,
        tokens: Tensor,
        document: Tensor | None = None,
        position: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T, D) hidden states after the final norm. Grows `cache` in place."""
        return self.norm(self.trunk(tokens, document, position, cache)[0])  # type: ignore[no-any-return]


def initialise(module: nn.Module, zero_residual: bool = False) -> None:
    """Every Linear and Embedding ~ N(0, 0.02), biases zero; with `zero_residual` every block starts
    as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    if zero_residual:
        for part in module.modules():
            if isinstance(part, Block):
                part.zero_residual()


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """All but the frozen ones."""
    return [p for p in module.parameters() if p.requires_grad]


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in trained_parameters(module))
