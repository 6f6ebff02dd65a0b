"""The Mamba-2 block in plain PyTorch, for short windows on any device.

    in_proj → [z, x, B, C, dt] → causal depthwise conv + SiLU on x, B, C → SSD, + D·x → RMSNorm(y · SiLU(z)) → out_proj

Names, shapes and initialisation of the weights are those of mamba-ssm's `Mamba2` with one group, so that a state
dict fits both and its CUDA kernels can take over without a new checkpoint.

What makes it fast: nothing is padded, the convolution is four shifted multiply-adds over channels that lie side by
side (with its own backward pass, which keeps one tensor instead of eight), `C·Bᵀ` is computed once for all heads,
and `last` computes the last layer of a model at the one position that anybody reads.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runctl.models import ssd

DT_RANGE = (1e-3, 1e-1)  # dt at the start: log-uniform
DT_FLOOR = 1e-4
A_RANGE = (1.0, 16.0)  # -A at the start: uniform
EPS = 1e-5


class Mamba2(nn.Module):
    """(B, L, d_model) → (B, L, d_model); output t depends on inputs up to t."""

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        headdim: int = 64,
        expand: int = 2,
        d_conv: int = 4,
        chunk_size: int = 64,
    ) -> None:
        super().__init__()
        self.d_inner, self.d_state, self.headdim, self.chunk_size = expand * d_model, d_state, headdim, chunk_size
        if self.d_inner % headdim:
            raise ValueError(f"expand × d_model is {self.d_inner}, which heads of {headdim} do not divide")
        self.heads = self.d_inner // headdim
        channels = self.d_inner + 2 * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + channels + self.heads, bias=False)  # [z, x, B, C, dt]
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels)
        dt = torch.exp(torch.empty(self.heads).uniform_(*map(math.log, DT_RANGE))).clamp(min=DT_FLOOR)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus gives dt back
        self.A_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(*A_RANGE)))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        z, mixed, dt = self.in_proj(u).split([self.d_inner, self.d_inner + 2 * self.d_state, self.heads], -1)
        x, B, C, dt = self._scanned(mixed, dt)
        y = ssd.ssd(x, dt, -torch.exp(self.A_log), B, C, self.chunk_size)
        y = (y + x * self.D.to(x.dtype)[:, None]).flatten(2)
        return self.out_proj(self.norm(y * F.silu(z)))

    def last(self, u: Tensor) -> Tensor:
        """`forward(u)[:, -1]`, (B, d_model): gate, scan and output projection at the last position only."""
        weight = self.in_proj.weight
        gate, rest = weight.split([self.d_inner, len(weight) - self.d_inner])
        mixed, dt = F.linear(u, rest).split([self.d_inner + 2 * self.d_state, self.heads], -1)
        x, B, C, dt = self._scanned(mixed, dt)
        y = ssd.last(x, dt, -torch.exp(self.A_log), B, C[:, -1])
        y = (y + x[:, -1] * self.D.to(x.dtype)[:, None]).flatten(1)
        return self.out_proj(self.norm(y * F.silu(F.linear(u[:, -1], gate))))

    def _scanned(self, mixed: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (B, L, H, P), B and C (B, L, N), and dt (B, L, H), which is float32 or wider."""
        mixed = conv_silu(mixed, self.conv1d.weight, self.conv1d.bias)
        x, B, C = mixed.split([self.d_inner, self.d_state, self.d_state], -1)
        return x.unflatten(-1, (self.heads, self.headdim)), B, C, F.softplus(dt + self.dt_bias)


class RMSNorm(nn.Module):
    """x · weight / √(mean(x²) + ε) over the last axis; the mean is taken in float32 or wider."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, self.weight.dtype)
        scale = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square() / x.shape[-1] + EPS)
        return x * scale.to(x.dtype) * self.weight.to(x.dtype)


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the causal depthwise convolution of x (B, L, C) with weight (C, 1, W) and bias (C,)."""
    return _ConvSilu.apply(x, weight.squeeze(1).t().to(x.dtype), bias.to(x.dtype))


class _ConvSilu(torch.autograd.Function):
    """weight is (W, C): row W-1 meets the frame itself, row 0 the frame W-1 before it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        before = torch.addcmul(bias, x, weight[-1])
        for back in range(1, min(len(weight), x.shape[1])):
            before[:, back:].addcmul_(x[:, :-back], weight[-1 - back])
        ctx.save_for_backward(x, weight, before)
        return F.silu(before)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, before = ctx.saved_tensors
        grad = torch.ops.aten.silu_backward(grad, before)
        grad_x = grad * weight[-1]
        grad_weight = torch.zeros_like(weight)
        grad_weight[-1] = (grad * x).sum((0, 1))
        for back in range(1, min(len(weight), x.shape[1])):
            late, early = grad[:, back:], x[:, :-back]
            grad_x[:, :-back].addcmul_(late, weight[-1 - back])
            grad_weight[-1 - back] = (late * early).sum((0, 1))
        return grad_x, grad_weight, grad.sum((0, 1))
