"""The order in which windows are read: one permutation for each epoch, made from the seed and the epoch's number.

Why no sampler object: the order is a function of (seed, epoch), and the position in it a function of the step.
A resumed run therefore needs no iterator state to read exactly the windows that the unbroken run would have read.

Up to LISTED windows an epoch's permutation is drawn as a whole, 8 bytes a window. Beyond, drawing would stop the steps
for a second at each epoch of 20 million windows and hold gigabytes of a dataset of some hundred gigabytes: there the
window at a place is computed (`Computed`). A run that was begun the other way goes on so: its checkpoints say which.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runctl.train.schedule import Plan

LISTED = 1 << 20  # windows
SPAN = 1 << 14  # places that are computed at once, at least
_ROUNDS = 6


def permutation(seed: int, epoch: int, windows: int) -> Tensor:
    """(windows,) int64: each window once, in the order of that epoch; the same on every machine."""
    digest = hashlib.sha256(f"order:{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(windows, generator=generator)


class Computed:
    """A permutation of 0 … windows-1 of which any part is computed without the rest.

    A number below side² is a pair (left, right) of numbers below `side`; each round replaces it by
    (right, left + F(right) mod side), which can be undone and so is a permutation of the pairs (a Feistel network over
    a domain of any size: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", sections 4 and 5). Where the
    result is no window, it is permuted again until it is one; side² is hardly more than the windows, so that is rare.
    """

    def __init__(self, seed: int, epoch: int, windows: int) -> None:
        self.windows, self.side = windows, math.isqrt(windows - 1) + 1
        digest = hashlib.sha512(f"order:{seed}:{epoch}:{windows}".encode()).digest()
        self._keys = np.frombuffer(digest, "<u8")[:_ROUNDS].astype(np.uint64)
        self._first, self._span = 0, torch.empty(0, dtype=torch.int64)

    def __getitem__(self, places: slice) -> Tensor:
        """(stop - start,) int64: the windows at these places."""
        first, stop = places.start, min(places.stop, self.windows)
        if not self._first <= first <= stop <= self._first + len(self._span):
            last = min(max(stop, first + SPAN), self.windows)
            self._first, self._span = first, self._at(np.arange(first, last, dtype=np.uint64))
        return self._span[first - self._first : stop - self._first]

    def _at(self, places: Any) -> Tensor:
        found = self._permuted(places)
        while len(beyond := np.flatnonzero(found >= self.windows)):
            found[beyond] = self._permuted(found[beyond])
        return torch.from_numpy(found.view(np.int64))

    def _permuted(self, numbers: Any) -> Any:
        """(n,) uint64 below side² → the same, in another order."""
        side, half = np.uint64(self.side), np.uint64(32)
        left, right = np.divmod(numbers, side)
        for key in self._keys:
            moved = left + (((_mixed(right + key) >> half) * side) >> half)
            left, right = right, np.where(moved >= side, moved - side, moved)
        return left * side + right


def _mixed(numbers: Any) -> Any:
    """uint64 → uint64, each bit of the result depending on all: SplitMix64's last step (Steele, Lea and Flood 2014,
    "Fast Splittable Pseudorandom Number Generators")."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


class Order:
    """The windows of each optimizer step."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan, self._seed = plan, seed
        self.way = "listed" if plan.windows <= LISTED else "computed"
        self._epoch = -1
        self._windows: Tensor | Computed = torch.empty(0, dtype=torch.int64)

    def go_on(self, way: str | None) -> None:
        """Read on in the way of a checkpoint; those that do not say it are from when all was listed."""
        self.way, self._epoch = way or "listed", -1

    def windows(self, step: int) -> Tensor:
        """The window numbers that the step after `step` finished ones reads; fewer at the end of an epoch."""
        epoch, offset = self._plan.position(step)
        if epoch != self._epoch:
            make = permutation if self.way == "listed" else Computed
            self._windows, self._epoch = make(self._seed, epoch, self._plan.windows), epoch
        return self._windows[offset : offset + self._plan.step_windows]

    def after(self, step: int, index: int, size: int) -> Tensor | None:
        """The windows of the forward pass of up to `size` windows that follows pass `index` of the step after `step`
        finished ones; None after the run's last."""
        later = self.windows(step)[(index + 1) * size : (index + 2) * size]
        if len(later):
            return later
        return self.windows(step + 1)[:size] if step + 1 < self._plan.total_steps else None
