"""The tiny job, shared by several processes, in which something happens to one of them: FAULT=KIND:RANK:BATCH.

    raise   a defect of the program            nan    its loss is NaN
    hang    it sleeps, in Python               exit   it goes without a word
    late    it is killed in a validation: BATCH counts their batches

Like tiny_job.py it is an attempt as a program: python tests/ddp_job.py RUN_DIR --attempt N.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tiny_job import CONTEXT, TinyJob
from torch import Tensor, nn

from runctl.config import RunConfig


class SharedJob(TinyJob):
    def loss(self, batch: Tensor, **facts: Any) -> tuple[Tensor, dict[str, Tensor]]:
        error, parts = super().loss(batch, **facts)
        kind, _, rest = os.environ.get("FAULT", "").partition(":")
        if kind in ("", "late"):
            return error, parts
        rank, _, at = rest.partition(":")
        if os.environ.get("RANK") != rank or self.batches != int(at):
            return error, parts
        if kind == "raise":
            raise ValueError("the sine is not noisy")
        if kind == "hang":
            asleep()
        if kind == "exit":
            os._exit(3)
        return error * float("nan"), parts

    def metrics(self) -> SharedMetrics:
        return SharedMetrics(self.model)


def asleep() -> None:
    time.sleep(300)


_measured = [0]


def die_late() -> None:
    kind, _, rest = os.environ.get("FAULT", "").partition(":")
    rank, _, at = rest.partition(":")
    _measured[0] += 1
    if kind == "late" and os.environ.get("RANK") == rank and _measured[0] == int(at):
        Path(sys.argv[1], "attempts", "1", "ranks", "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


class SharedMetrics:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.values = torch.zeros(2, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        die_late()
        error = (self.model(batch[:, :CONTEXT]).squeeze(-1).float() - batch[:, CONTEXT]).square()
        self.values += torch.tensor([error.double().sum().item(), len(batch)], dtype=torch.float64)

    def sums(self) -> list[Tensor]:
        return [self.values]

    def compute(self) -> dict[str, float]:
        return {"val/loss": float(self.values[0] / self.values[1])}


def build(config: RunConfig, **place: Any) -> SharedJob:
    place["report"]("making a sine")
    return SharedJob()


if __name__ == "__main__":
    from runctl.train.__main__ import attempt

    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args()
    attempt(options.run.resolve(), options.attempt, build)
