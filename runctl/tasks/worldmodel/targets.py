"""What is predicted of the next frame, and in which units the numbers among it are learned.

Every number is predicted as its *origin* plus the head's output times a constant scale of its column:

    continuous   percent x y shield       origin: the last value; with `delta_target: residual`, for x and y, the
                                          last value plus the last change (an output of zero repeats the movement)
    velocity     five velocities          origin: the last value
    dynamics     hitlag stocks combo [hitstun]    origin: the last value

Why scales: a frame's change is tiny beside a cross-entropy (a position moves by 0.02 scaled units), and a head that
starts at zero would need half a run to find its size. The scale of a column is the mean of |next - origin| over
training windows, so every number's mean error begins at 1. Scales are buffers: they are saved with the weights and
are no parameters.

Why x and y only: bodies have momentum, percent and shield have not. And a body that moved farther in one frame than
anything flies was put there (a respawn): such a movement is not repeated. In real games these few frames in ten
thousand hold a fifth of all error of *last delta*.

Why changes for the dynamics too: a stock or a hitlag frame stays or counts down; from the last value that is one
small step, from nothing it is a copy that the model would have to learn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from runctl.config.model import Encoding
from runctl.tasks.worldmodel.dataset import Windows
from runctl.tasks.worldmodel.encoding import BINARIES, CORE, VELOCITIES
from runctl.tasks.worldmodel.features import Features, flag_fields
from runctl.tasks.worldmodel.games import Array

NUMBERS = ("continuous", "velocity", "dynamics")
PREDICTED_IDS = ("action", "jumps", "l_cancel", "hurtbox", "ground", "last_attack")
TELEPORT = 20.0  # game units in one frame; of the real movements beyond it, 95 % are beyond 50: respawns
SAMPLE = 100_000  # windows that the scales are measured on
PART = 8192  # windows of them in memory at a time


class Targets(nn.Module):
    """The groups of targets, their columns among the floats, and their scales (buffers, 1 until `measure`)."""

    def __init__(self, features: Features, encoding: Encoding, delta_target: str) -> None:
        super().__init__()
        dynamics = ("hitlag", "stocks", "combo", *(("hitstun",) if encoding.hitstun else ()))
        fields = {"continuous": CORE, "velocity": VELOCITIES, "dynamics": dynamics}
        self.features = features
        self.positions = [index for index, field in enumerate(CORE * 2) if field in ("x", "y")]  # in `continuous`
        self.residual, self.teleport = delta_target == "residual", TELEPORT * encoding.xy_scale
        moves = torch.zeros(len(CORE) * 2)
        moves[self.positions] = 1.0
        self.register_buffer("_moves", moves, persistent=False)
        self.widths = {name: len(features.columns(group)) for name, group in fields.items()}
        for name, group in {**fields, "binary": (*BINARIES, *flag_fields(encoding))}.items():
            self.register_buffer(f"{name}_columns", torch.tensor(features.columns(group)), persistent=False)
        for name in NUMBERS:
            self.register_buffer(f"{name}_scale", torch.ones(self.widths[name]))
        self.widths["binary"] = len(self.binary_columns)

    def of(self, floats: Tensor, name: str) -> Tensor:
        """The columns of a group, floats (…, F) → (…, width)."""
        return floats.index_select(-1, getattr(self, f"{name}_columns"))

    def origin(self, floats: Tensor, name: str, *, every: bool = False) -> Tensor:
        """What an output of zero stands for, (B, width): from the floats (B, K, F) that the model was given. With
        `every`, (B, K, width): of the frame after each; the first one has no movement that could be repeated."""
        if every:
            first, rest = self.of(floats[:, :1], name), self.of(floats[:, 1:], name)
            if name == "continuous" and self.residual:
                rest = self._repeated(rest, self.of(floats[:, :-1], name))
            return torch.cat([first, rest], 1)
        last = self.of(floats[:, -1], name)
        if name != "continuous" or not self.residual:
            return last
        return self._repeated(last, self.of(floats[:, -2], name))

    def _repeated(self, last: Tensor, before: Tensor) -> Tensor:
        change = last - before
        return last + change * self._moves * (change.abs() <= self.teleport)

    def scale(self, name: str) -> Tensor:
        return getattr(self, f"{name}_scale")

    def away(self, floats: Tensor, name: str) -> Tensor:
        """How far the targets are from their origins, (B, width), in floats (B, K, F) that end with the target."""
        return self.of(floats[:, -1], name) - self.origin(floats[:, :-1], name)


class Spread:
    """Mean and variance (of the population) of columns that come in parts, (N, columns) float64 each.

    The parts' moments are merged pairwise (Chan, Golub & LeVeque 1979), which loses no digits to large means."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.variance = torch.zeros(())

    def add(self, part: Tensor) -> None:
        mean, variance, count = part.mean(0), part.var(0, correction=0), len(part)
        if self.count:
            share = count / (self.count + count)
            apart = mean - self.mean
            variance = self.variance + (variance - self.variance) * share + apart.square() * (share * (1 - share))
            mean = self.mean + apart * share
        self.count, self.mean, self.variance = self.count + count, mean, variance


def sample(records: Array, starts: Array | Windows, context: int) -> Iterator[Tensor]:
    """Records (≤ PART, 3, R) of at most SAMPLE windows, evenly spread so that the same data give the same: the last
    two frames that a window gives and the one that it asks for. In parts, so that memory stays bounded."""
    chosen = starts[np.linspace(0, len(starts) - 1, min(SAMPLE, len(starts))).astype(np.int64)]
    for first in range(0, len(chosen), PART):
        part = chosen[first : first + PART, None] + np.arange(context - 2, context + 1)
        yield torch.from_numpy(np.ascontiguousarray(records[part]))


def usable(scale: Tensor) -> Tensor:
    """The scale, or 1 where a column is constant or holds NaN."""
    return torch.where((scale > 0) & scale.isfinite(), scale, 1.0)
