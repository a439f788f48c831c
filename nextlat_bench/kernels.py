"""Elementwise pieces of the decoder with hand-written gradients.

On a CPU at small widths, autograd's own versions (many passes over memory) cost more than the
matrix products.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["kl_divergence", "quarter_turn", "rms_norm", "rotated", "smooth_l1"]
__all__ += ["squared_length", "swiglu"]

LONGEST_DOT = 2**31 - 1  # numbers that cuBLAS takes at a time


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.float()
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = (norm.square_().div_(x.shape[-1]).add_(eps)).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        return cast(Tensor, (x * scale).mul_(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        dy, rows = gradients[0].reshape(-1, x.shape[-1]), x.reshape(-1, x.shape[-1])
        scale = scale.view(-1, 1)
        both = dy * rows
        d_weight = (scale.mT @ both).view(-1)
        along = (both @ weight.unsqueeze(1)).mul_(scale.square()).div_(x.shape[-1])
        dx = (dy * weight).addcmul_(rows, along, value=-1).mul_(scale)
        return dx.view(x.shape), d_weight, None


class _Rotated(Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, turn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin, turn)
        qk = qkv[:, :, :2]
        q, k = (qk * cos).addcmul_(_times(qk, turn), sin).transpose(1, 3).unbind(2)
        return q, k, qkv[:, :, 2].transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Straight into one tensor: a gradient of each part would be as large as the whole."""
        (cos, sin, turn), (dq, dk, dv) = ctx.saved_tensors, gradients
        dqk = torch.stack((dq.transpose(1, 2), dk.transpose(1, 2)), dim=2)
        B, T, _, H, d = dqk.shape
        d_qkv = dqk.new_empty(B, T, 3, H, d)
        if torch.compiler.is_compiling():  # which writes into no part of a tensor, and need not
            d_qkv[:, :, :2] = (dqk * cos).addcmul_(_times(dqk, turn), sin, value=-1)
        else:
            torch.mul(dqk, cos, out=d_qkv[:, :, :2]).addcmul_(_times(dqk, turn), sin, value=-1)
        d_qkv[:, :, 2] = dv.transpose(1, 2)
        return d_qkv, None, None, None


def quarter_turn(d: int) -> Tensor:
    """(d, d): x @ it turns [a, b] into [-b, a]. A signed permutation, so the product is exact, and
    several times faster on a CPU than moving short halves about."""
    turn = torch.zeros(d, d)
    turn.diagonal(d // 2).fill_(1)
    turn.diagonal(-(d // 2)).fill_(-1)
    return turn


def _times(x: Tensor, matrix: Tensor) -> Tensor:
    """Over the last dimension."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).view(x.shape)


class _SwiGLU(Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        active = torch.nn.functional.silu(gate)
        ctx.save_for_backward(gate_up, active)
        return active * up

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gate_up, active = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        if torch.compiler.is_compiling():
            d_gate = torch.ops.aten.silu_backward(gradients[0] * up, gate)
            return torch.cat([d_gate, gradients[0] * active], -1)
        d_gate_up = torch.empty_like(gate_up)
        d_gate, d_up = d_gate_up.chunk(2, dim=-1)
        torch.mul(gradients[0], active, out=d_up)
        torch.ops.aten.silu_backward.grad_input(gradients[0] * up, gate, grad_input=d_gate)
        return d_gate_up


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the products of all their numbers."""
    return torch.dot(a.flatten(), b.flatten()) if a.numel() <= LONGEST_DOT else (a * b).sum()


class _KLDivergence(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, p: Tensor, negative_entropy: Tensor) -> Tensor:
        log_q = logits.float().log_softmax(-1)
        ctx.save_for_backward(log_q, p)
        ctx.dtype = logits.dtype
        return (negative_entropy.sum() - _dot(p, log_q)) / len(p)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        log_q, p = ctx.saved_tensors
        return (log_q.exp() - p).mul_(gradients[0] / len(p)).to(ctx.dtype), None, None


class _SmoothL1(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        difference = (x.float() - target).flatten()
        slope = difference.clamp(-1, 1)
        ctx.save_for_backward(slope)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return (torch.dot(slope, difference) - torch.dot(slope, slope) / 2) / x.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return (slope * (gradients[0] / slope.numel())).view(ctx.shape).to(ctx.dtype), None


class _SquaredLength(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return cast(Tensor, norm.square_())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cast(Tensor, x * (2 * gradients[0]))


class _NoTape:
    """Where no gradient is wanted, nothing is kept for it."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        pass


def _applied(piece: Any, *arguments: Any) -> Any:
    """A piece's result; without autograd's own cost, a sixth of a short step's, where it is off."""
    if torch.is_grad_enabled():
        return piece.apply(*arguments)
    return piece.forward(_NoTape(), *arguments)


def kl_divergence(logits: Tensor, p: Tensor, negative_entropy: Tensor) -> Tensor:
    """KL(p || softmax(logits)), the mean of n rows: (n, V), (n, V) and (n,) sums of p log p."""
    return cast(Tensor, _applied(_KLDivergence, logits, p, negative_entropy))


def smooth_l1(x: Tensor, target: Tensor) -> Tensor:
    """The mean over all numbers of d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere, d = x - target in
    float32 (Girshick 2015, equation 3). With d's slope s, d cut to [-1, 1], that is s d - s^2 / 2.
    """
    return cast(Tensor, _applied(_SmoothL1, x, target))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, in float32 (Zhang and Sennrich 2019)."""
    return cast(Tensor, _applied(_RMSNorm, x, weight, eps))


def rotated(qkv: Tensor, cos: Tensor, sin: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, 3, H, d) -> queries, keys and values (B, H, T, d), the first two with rotary
    positions, rotate-half (Su et al. 2021). Tables (B or 1, T, 1, 1, d), and the `quarter_turn`."""
    tables = (table.to(qkv.dtype) for table in (cos, sin, turn))
    return cast(tuple[Tensor, Tensor, Tensor], _applied(_Rotated, qkv, *tables))


def squared_length(x: Tensor) -> Tensor:
    """(..., D) -> (..., 1): the sum of squares."""
    return cast(Tensor, _applied(_SquaredLength, x))


def swiglu(gate_up: Tensor) -> Tensor:
    """(..., 2H) -> (..., H): silu of the first half times the second (Shazeer 2020)."""
    return cast(Tensor, _applied(_SwiGLU, gate_up))
