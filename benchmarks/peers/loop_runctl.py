"""The same training by runctl's own loop, with its heartbeat, record and checks; under no supervisor.

python loop_runctl.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import feed
import torch
from torch import Tensor

from runctl import record
from runctl.config import RunConfig
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Place, train
from runctl.train.trackers import start


class Job:
    data_source = "noise"
    identity: Mapping[str, str] = MappingProxyType({})
    validation_windows = feed.BATCH
    train_windows = feed.WINDOWS

    def __init__(self) -> None:
        self.clock, self.rows, self.model = feed.Clock(), feed.data(), feed.model()

    def batch(self, windows: Tensor, validation: bool) -> Tensor:
        if not validation:
            self.clock.tick()
        return self.rows.index_select(0, windows)

    def loss(self, batch: Tensor, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss = feed.error(self.model, batch)
        return loss, {"square": loss.detach()}

    def metrics(self) -> Metrics:
        return Metrics()


class Metrics:
    def update(self, batch: Tensor) -> None: ...

    def compute(self) -> dict[str, float]:
        return {"val/loss": 0.0}


def main(folder: str) -> None:
    config = RunConfig.model_validate(
        {
            "name": "loop",
            "training": {
                "steps": feed.STEPS,
                "batch_size": feed.BATCH,
                "lr": feed.RATE,
                "weight_decay": feed.DECAY,
                "grad_clip": feed.CLIP,
                "warmup_steps": feed.WARM_UP,
                "log_every": feed.LOG_EVERY,
                "validate_every": f"{feed.STEPS} steps",
                "precision": "fp32",
                "threads": 1,
                "device": "cpu",
            },
            "checkpoint": {"every": "never"},
        }
    )
    run = record.RunDir(Path(folder))
    files = run.attempt(1)
    files.path.mkdir(parents=True)
    place = Place(run, 1, torch.device("cpu"), Control(), Heartbeat(files), start(config, {}, run))
    train(Job(), config, place)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
