"""A real job in a few lines, for tests of the trainer: predict a noisy sine's next value from the last eight.

As a program it is one attempt, like `python -m runctl.train`: python tests/tiny_job.py RUN_DIR --attempt N.
With PACE set in the environment every batch waits so many seconds, so that a test can interrupt the run; with ROOM a
batch of more windows is out of memory, from the ROOM_FROM-th on; the windows of each training batch go to READ.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runctl import config as configs
from runctl import record
from runctl.config import RunConfig
from runctl.train.gather import Gather

CONTEXT = 8
FRAMES = 600
HELD_OUT = 100


class TinyJob:
    data_source = "a noisy sine (simulated)"

    def __init__(self, *, poison_at: int | None = None, width: int = 16) -> None:
        noise = np.random.default_rng(3).normal(0, 0.05, FRAMES)
        wave = (np.sin(np.arange(FRAMES) / 5) + noise).astype("<f4")
        self.gather = Gather(wave.view(np.uint8).reshape(FRAMES, 4), CONTEXT + 1, torch.device("cpu"))
        self.train_windows = FRAMES - CONTEXT - HELD_OUT
        self.validation_windows = HELD_OUT
        self.identity = {"model.width": str(width), "dataset": "sine"}
        self.model = nn.Sequential(nn.Linear(CONTEXT, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 1))
        self.poison_at = poison_at
        self.batches = 0
        self.asked = 0

    def batch(self, windows: Tensor, validation: bool) -> Tensor:
        time.sleep(float(os.environ.get("PACE", "0")))
        self.asked += 1
        full = "ROOM" in os.environ and len(windows) > int(os.environ["ROOM"])
        if full and self.asked > int(os.environ.get("ROOM_FROM", "0")):
            raise MemoryError
        if "READ" in os.environ and not validation:
            with open(os.environ["READ"], "a", encoding="ascii") as file:
                file.write(" ".join(map(str, windows.tolist())) + "\n")
        starts = windows + (self.train_windows if validation else 0)
        return self.gather(starts).view(torch.float32).squeeze(-1)

    def loss(
        self, batch: Tensor, *, generator: torch.Generator, progress_epochs: float, train: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        noise = torch.randn(batch[:, :CONTEXT].shape, generator=generator) * 0.01
        error = (self.model(batch[:, :CONTEXT] + noise).squeeze(-1) - batch[:, CONTEXT]).square().mean()
        self.batches += 1
        if self.poison_at is not None and self.batches >= self.poison_at:
            error = error * float("nan")
        return error, {"square": error.detach()}

    def metrics(self) -> TinyMetrics:
        return TinyMetrics(self.model)


class TinyMetrics:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.errors: list[Tensor] = []
        self.still: list[Tensor] = []

    def update(self, batch: Tensor) -> None:
        torch.rand(3)  # a metric that draws random numbers must not disturb the training
        self.errors.append((self.model(batch[:, :CONTEXT]).squeeze(-1).float() - batch[:, CONTEXT]).square())
        self.still.append((batch[:, CONTEXT - 1] - batch[:, CONTEXT]).square())

    def compute(self) -> dict[str, float]:
        return {
            "val/loss": float(torch.cat(self.errors).mean()),
            "baseline/no_motion/loss": float(torch.cat(self.still).mean()),
        }


def build(config: RunConfig, **place: Any) -> TinyJob:
    place["report"]("making a sine")
    return TinyJob(poison_at=int(os.environ["POISON"]) if "POISON" in os.environ else None)


def config(**sections: Any) -> RunConfig:
    """A config of 40 steps of 64 windows; sections are merged into it."""
    training = {"steps": 40, "batch_size": 64, "lr": 0.01, "warmup_steps": 5, "threads": 1, "log_every": 5, "seed": 1}
    training |= {"device": "cpu", "validate_every": "10 steps"} | sections.pop("training", {})
    saving = {"every": "8 steps"} | sections.pop("checkpoint", {})
    return RunConfig.model_validate({"name": "tiny", "training": training, "checkpoint": saving, **sections})


def make_run(folder: Path, config: RunConfig) -> record.RunDir:
    """A run directory as launch leaves it, with the folder of attempt 1."""
    run = record.RunDir(folder)
    effective = configs.to_effective(config)
    record.write_json(run.run, {"schema_version": 1, "config": effective, "project": str(folder.parent)})
    run.attempt(1).path.mkdir(parents=True)
    return run


if __name__ == "__main__":
    from runctl.train.__main__ import attempt

    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args()
    attempt(options.run.resolve(), options.attempt, build)
