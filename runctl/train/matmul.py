"""What this device reaches in plain matrix products: the measure for how much of it a step uses."""

from __future__ import annotations

import time
from functools import cache

import torch

SIZES = {"cpu": 768, "cuda": 4096}  # square; milliseconds each
_TIMES = 4


@cache
def flops_per_second(device: torch.device, precision: str) -> float:
    """The best of a few products in bf16, or in fp32 as the run computes it; measured once, in some milliseconds."""
    size = SIZES.get(device.type, SIZES["cpu"])
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.rand(size, size, device=device, generator=torch.Generator(device).manual_seed(0)).to(dtype)
    out = torch.empty_like(left)
    taken = []
    for _ in range(_TIMES):
        _wait(device)
        began = time.perf_counter()
        torch.matmul(left, left, out=out)
        _wait(device)
        taken.append(time.perf_counter() - began)
    return float(2 * size**3 / min(taken))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
