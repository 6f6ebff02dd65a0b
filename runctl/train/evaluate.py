"""Validation: the metrics and the baselines on held-out windows, without a trace in the training's randomness."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from runctl.train.device import autocast
from runctl.train.job import Job
from runctl.train.ranks import Alone, Ranks


def windows(count: int, limit: int | None) -> Tensor:
    """(≤ limit,) int64: all held-out windows, or `limit` of them evenly spread; always the same ones."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return (torch.arange(limit, dtype=torch.float64) * (count / limit)).long()


def evaluate(
    job: Job,
    chosen: Tensor,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    meanwhile: Callable[[], None],
    ranks: Ranks | None = None,
) -> dict[str, float | None]:
    """The job's metrics over the chosen windows; None stands for a value that is not finite (a share of no frames).
    `meanwhile` is called between batches and may raise to give up. Of several processes each measures a piece of every
    batch, and all return the same."""
    ranks = ranks or Alone()
    metrics = job.metrics()
    job.model.eval()
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda), autocast(device, precision):
            for part in chosen.split(batch_size):
                mine, counting = ranks.share(part)
                if counting:
                    metrics.update(job.batch(mine, validation=True))
                meanwhile()
            ranks.merge(metrics)
            values = metrics.compute()
    finally:
        job.model.train()
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
