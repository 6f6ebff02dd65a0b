"""The order in which windows are read: one permutation for each epoch, made from the seed and the epoch's number.

Why no sampler object: the order is a function of (seed, epoch), and the position in it a function of the step.
A resumed run therefore needs no iterator state to read exactly the windows that the unbroken run would have read.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from runctl.train.schedule import Plan


def permutation(seed: int, epoch: int, windows: int) -> Tensor:
    """(windows,) int64: each window once, in the order of that epoch; the same on every machine."""
    digest = hashlib.sha256(f"order:{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(windows, generator=generator)


class Order:
    """The windows of each optimizer step; holds the current epoch's permutation (8 bytes a window)."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan, self._seed = plan, seed
        self._epoch = -1
        self._windows = torch.empty(0, dtype=torch.int64)

    def windows(self, step: int) -> Tensor:
        """The window numbers that the step after `step` finished ones reads; fewer at the end of an epoch."""
        epoch, offset = self._plan.position(step)
        if epoch != self._epoch:
            self._windows = permutation(self._seed, epoch, self._plan.windows)
            self._epoch = epoch
        return self._windows[offset : offset + self._plan.step_windows]
