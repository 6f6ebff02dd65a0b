"""The Mamba-2 block: its weights, and the paths that compute it (`kernels`).

    in_proj → [z, x, B, C, dt] → causal depthwise conv + SiLU on x, B, C → SSD, + D·x → RMSNorm(y · SiLU(z)) → out_proj

Names, shapes and initialisation of the weights are those of mamba-ssm's `Mamba2` with one group, so that a state
dict fits both and its CUDA kernels can take over without a new checkpoint.

A layer's own RMSNorm may be handed to the block, which then folds it into its first projection. With `last` a block
computes the one position that anybody reads of the last layer: gate, scan and output projection only there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runctl.models import kernels
from runctl.models.fused import Sizes

DT_RANGE = (1e-3, 1e-1)  # dt at the start: log-uniform
DT_FLOOR = 1e-4
A_RANGE = (1.0, 16.0)  # -A at the start: uniform


class Mamba2(nn.Module):
    """(B, L, d_model) → (B, L, d_model); output t depends on inputs up to t. `kernel` is the path that computes it."""

    kernel = "eager"

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

    def forward(self, u: Tensor, norm: RMSNorm | None = None, *, last: bool = False) -> Tensor:
        """The block of `norm(u)`, or of u; with `last` at the last position alone: (B, d_model)."""
        return kernels.PATHS[self.kernel](self, u, None if norm is None else norm.weight, last)

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.heads, self.headdim, self.d_state, self.chunk_size)


class RMSNorm(nn.Module):
    """x · weight / √(mean(x²) + ε) over the last axis; the mean is taken in float32 or wider."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return kernels.normed(x, self.weight)
