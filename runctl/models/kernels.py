"""The paths that compute a Mamba-2 block from the same weights, by the names of `training.kernel`.

    reference   the equations as they stand: torch's convolution, the scan frame by frame. Slow; what the others are
                tested against
    eager       `fused`: operations with backward passes of their own, on any device
    compiled    `plain` through torch.compile, for training steps of one shape; everything else takes the eager path
    mamba_ssm   the scan of mamba-ssm and the convolution of causal-conv1d, on CUDA alone

`auto` takes what was the fastest where it was measured (`data/kernels.yaml`), and the eager path elsewhere.

A path is `path(block, u, norm, last)`: u (B, L, M) and the weights of the norm before the block, or None.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from runctl import install, shipped
from runctl.errors import RunctlError
from runctl.models import fused, ssd

if TYPE_CHECKING:
    from runctl.models.mamba2 import Mamba2

PACKAGES = ("mamba-ssm", "causal-conv1d")
Path = Callable[["Mamba2", Tensor, "Tensor | None", bool], Tensor]


def choose(wanted: str, *, device: str, precision: str, frames: int) -> str:
    """The path for `training.kernel`. Raises RunctlError where it cannot run here."""
    if wanted == "auto":
        return measured(device, precision, frames)
    if wanted == "mamba_ssm":
        if device != "cuda":
            raise RunctlError(
                "training.kernel is mamba_ssm, but the run trains on the CPU, where these kernels do not run",
                hint="set training.kernel: auto, or train on a GPU",
            )
        absent = [name for name in PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is None]
        if absent:
            said = f"training.kernel is mamba_ssm, but {absent[0]} is not installed"
            raise RunctlError(said, hint=install.hint("gpu"))
    return wanted


def measured(device: str, precision: str, frames: int) -> str:
    """The fastest path of the table for that device, precision and window."""
    for row in shipped.load("kernels.yaml"):
        if (row["device"], row["precision"]) == (device, precision) and frames <= row["frames_up_to"]:
            return str(row["kernel"])
    return "eager"


def named(kernel: str) -> str:
    """A path with the versions that it rests on."""
    if kernel == "compiled":
        return f"compiled (torch {torch.__version__})"
    if kernel != "mamba_ssm":
        return kernel
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name}, version unknown")
    return f"mamba_ssm ({', '.join(found)})"


def reference(block: Mamba2, u: Tensor, norm: Tensor | None, last: bool) -> Tensor:
    z, mixed, dt = _split(block, F.linear(u if norm is None else normed(u, norm), block.in_proj.weight))
    taps = block.conv1d.weight.shape[-1]
    mixed = F.pad(mixed.transpose(1, 2), (taps - 1, 0))
    mixed = F.silu(F.conv1d(mixed, block.conv1d.weight, block.conv1d.bias, groups=len(block.conv1d.weight)))
    x, B, C = _parts(block, mixed.transpose(1, 2))
    wide = torch.promote_types(dt.dtype, torch.float32)
    dt = F.softplus(dt.to(wide) + block.dt_bias)
    y = ssd.scan(x.to(wide), dt, -torch.exp(block.A_log), B.to(wide), C.to(wide)).to(x.dtype)
    y = y + x * block.D.to(x.dtype)[:, None]
    out = F.linear(normed(y.flatten(2) * F.silu(z), block.norm.weight), block.out_proj.weight)
    return out[:, -1] if last else out


def eager(block: Mamba2, u: Tensor, norm: Tensor | None, last: bool) -> Tensor:
    conv, weight = block.conv1d, block.in_proj.weight
    if not last:
        projected = fused.enter(u, norm, weight)
        gated = fused.mix(projected, conv.weight, conv.bias, block.dt_bias, block.A_log, block.D, block.sizes)
        return fused.leave(gated, block.norm.weight, block.out_proj.weight)
    gate, rest = weight.split([block.d_inner, len(weight) - block.d_inner])
    mixed, dt = fused.enter(u, norm, rest).split([block.d_inner + 2 * block.d_state, block.heads], -1)
    x, B, C = _parts(block, fused.conv_silu(mixed, conv.weight, conv.bias))
    dt = F.softplus(dt + block.dt_bias)
    y = ssd.last(x, dt, -torch.exp(block.A_log), B, C[:, -1])
    y = (y + x[:, -1] * block.D.to(x.dtype)[:, None]).flatten(1)
    return fused.leave(y * F.silu(fused.enter(u[:, -1], norm, gate)), block.norm.weight, block.out_proj.weight)


def compiled(block: Mamba2, u: Tensor, norm: Tensor | None, last: bool) -> Tensor:
    """Compiled for the first shape of a training step that comes: another one would be compiled anew, for a minute."""
    if not (block.training and torch.is_grad_enabled()):
        return eager(block, u, norm, last)
    shape = (*u.shape, u.dtype, u.device, torch.is_autocast_enabled(u.device.type), block.sizes, last)
    if _compiled_for.setdefault((block.sizes, last), shape) != shape:
        return eager(block, u, norm, last)
    conv = block.conv1d
    tensors = (u, norm, block.in_proj.weight, conv.weight, conv.bias, block.dt_bias, block.A_log, block.D)
    return _compiled()(*tensors, block.norm.weight, block.out_proj.weight, block.sizes, last)


_compiled_for: dict[Any, Any] = {}


@cache
def _compiled() -> Callable[..., Tensor]:
    """One function of tensors for all blocks, so that it is compiled once and not for each layer."""
    return torch.compile(plain, dynamic=False, fullgraph=True)


def plain(
    u: Tensor,
    norm: Tensor | None,
    in_weight: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    gate_norm: Tensor,
    out_weight: Tensor,
    sizes: fused.Sizes,
    last: bool,
) -> Tensor:
    """The block in operations that autograd knows, for a compiler to fuse."""
    heads, width, state, chunk = sizes
    inner = heads * width
    u = u if norm is None else normed(u, norm)
    gate, rest = in_weight.split([inner, len(in_weight) - inner])
    z = F.linear(u[:, -1] if last else u, gate)
    mixed, dt = F.linear(u, rest).split([inner + 2 * state, heads], -1)
    taps = conv_weight.squeeze(1).t().to(mixed.dtype)
    padded = F.pad(mixed, (0, 0, len(taps) - 1, 0))
    before = sum(
        (padded[:, index : index + u.shape[1]] * tap for index, tap in enumerate(taps)),
        start=conv_bias.to(mixed.dtype),
    )
    x, B, C = F.silu(before).split([inner, state, state], -1)
    x, dt, A = x.unflatten(-1, (heads, width)), F.softplus(dt + dt_bias), -torch.exp(A_log)
    if last:
        y = ssd.last(x, dt, A, B, C[:, -1])
        x = x[:, -1]
    else:
        y = ssd.ssd(x, dt, A, B, C, chunk)
    y = (y + x * D.to(x.dtype)[:, None]).flatten(-2)
    return F.linear(normed(y * F.silu(z), gate_norm), out_weight)


def mamba_ssm(block: Mamba2, u: Tensor, norm: Tensor | None, last: bool) -> Tensor:
    """mamba-ssm pads a window to its chunk, so the chunk is the smallest power of two that holds it, from 16 to 256."""
    if last:
        return eager(block, u, norm, last)  # linear in L: there is no scan to speed up
    from causal_conv1d import causal_conv1d_fn
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    z, mixed, dt = _split(block, fused.enter(u, norm, block.in_proj.weight))
    conv, kind = block.conv1d, mixed.dtype
    mixed = causal_conv1d_fn(
        mixed.transpose(1, 2), conv.weight.squeeze(1).to(kind), conv.bias.to(kind), activation="silu"
    )
    x, B, C = _parts(block, mixed.transpose(1, 2))
    size = min(256, max(16, 1 << (u.shape[1] - 1).bit_length()))
    y = mamba_chunk_scan_combined(
        x, dt, -torch.exp(block.A_log), B.unsqueeze(2), C.unsqueeze(2), size, D=block.D, dt_bias=block.dt_bias,
        dt_softplus=True,
    )  # fmt: skip
    return fused.leave(y.flatten(2) * F.silu(z), block.norm.weight, block.out_proj.weight)


PATHS: dict[str, Path] = {
    "reference": reference,
    "eager": eager,
    "compiled": compiled,
    "mamba_ssm": mamba_ssm,
}


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """x · weight / √(mean(x²) + ε) over the last axis; the mean is taken in float32 or wider."""
    wide = torch.promote_types(x.dtype, weight.dtype)
    scale = torch.rsqrt(
        torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square() / x.shape[-1] + fused.EPS
    )
    return x * scale.to(x.dtype) * weight.to(x.dtype)


def _split(block: Mamba2, projected: Tensor) -> tuple[Tensor, ...]:
    """z, [x, B, C] and dt of a projection."""
    return projected.split([block.d_inner, block.d_inner + 2 * block.d_state, block.heads], -1)


def _parts(block: Mamba2, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, L, H, P), B and C (B, L, N)."""
    x, B, C = mixed.split([block.d_inner, block.d_state, block.d_state], -1)
    return x.unflatten(-1, (block.heads, block.headdim)), B, C
