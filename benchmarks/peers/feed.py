"""The tiny model and data that all loops train, and the clock that they are measured by. Imports torch alone.

A loop asks for batch after batch; the `Feed` lets it run for as many as its parent asked for, says how long they took,
and holds it until it is asked again. So the loops of all programs take turns, whoever drives them, and what counts is
the time from batch to batch: all that a step costs.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

WIDTH, HIDDEN, BATCH, WINDOWS = 64, 128, 64, 8192
RATE, DECAY, CLIP, WARM_UP, STEPS, LOG_EVERY = 1e-3, 0.01, 1.0, 100, 10_000_000, 20


def model() -> nn.Sequential:
    """Four linear layers, 46,000 parameters in eight tensors."""
    torch.manual_seed(0)
    widths = (WIDTH, HIDDEN, HIDDEN, HIDDEN, WIDTH)
    layers = [nn.Linear(one, other) for one, other in itertools.pairwise(widths)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def data() -> Tensor:
    """(WINDOWS, 2 · WIDTH): an input and a target in each row."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(WINDOWS, 2 * WIDTH, generator=generator)
    rows[:, WIDTH:] = rows[:, :WIDTH].roll(1, 1) * 0.5
    return rows


class Clock:
    """Holds whoever calls `tick` before each batch until the parent asks for a number of them, on standard input."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what programs print is no answer
        self._left = self._count = 0
        self._began = (0.0, 0.0)

    def tick(self) -> None:
        if self._left == 0:
            self._turn()
        self._left -= 1

    def _turn(self) -> None:
        now = _now()
        if self._count:
            took = [(then - began) / self._count for then, began in zip(now, self._began, strict=True)]
            self._out.write(json.dumps(took) + "\n")
        asked = sys.stdin.readline().strip()
        if not asked:
            os._exit(0)
        self._count = self._left = int(asked)
        self._began = _now()


def _now() -> tuple[float, float]:
    """(wall clock, processor time of all threads), seconds."""
    return time.perf_counter(), time.process_time()


class Feed:
    """Batches (BATCH, 2 · WIDTH) without end, each epoch in another order."""

    def __init__(self) -> None:
        self.clock, self.rows = Clock(), data()

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            for chosen in torch.randperm(WINDOWS).split(BATCH):
                self.clock.tick()
                yield self.rows.index_select(0, chosen)


def error(net: nn.Module, batch: Tensor) -> Tensor:
    return nn.functional.mse_loss(net(batch[:, :WIDTH]), batch[:, WIDTH:])


def share(step: int) -> float:
    """The learning rate after so many steps, as a share of RATE: a linear rise, then half a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))
