"""Validation: the metrics and the baselines on held-out windows, without a trace in the training's randomness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from runctl.train.device import autocast
from runctl.train.job import Job, Metrics
from runctl.train.ranks import Alone, Ranks


class HeldOut:
    """The numbers of all held-out windows, or of `limit` of them evenly spread; always the same ones, and never listed
    as a whole."""

    def __init__(self, count: int, limit: int | None) -> None:
        self._places = range(count if limit is None else min(limit, count))
        self._stride = count / len(self._places) if len(self._places) < count else 1

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, places: slice) -> HeldOut:
        part = HeldOut(0, None)
        part._places, part._stride = self._places[places], self._stride
        return part

    def split(self, size: int) -> Iterator[Tensor]:
        """(≤ size,) int64, one part after the other."""
        for first in range(0, len(self), size):
            places = self._places[first : first + size]
            numbers = torch.arange(places.start, places.stop, places.step, dtype=torch.float64)
            yield (numbers * self._stride).long()


def evaluate(
    job: Job,
    chosen: HeldOut | Tensor,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    meanwhile: Callable[[], None],
    ranks: Ranks | None = None,
    metrics: Metrics | None = None,
) -> dict[str, float | None]:
    """The metrics, the job's own unless others are given, over the chosen windows; None stands for a value that is not
    finite (a share of no frames). `meanwhile` is called between batches and may raise to give up. Of several processes
    each measures a piece of every batch, and all return the same."""
    ranks = ranks or Alone()
    metrics = metrics or job.metrics()
    ahead = getattr(job, "ahead", None)
    job.model.eval()
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda), autocast(device, precision):
            for part, then in _with_next(chosen.split(batch_size)):
                mine, counting = ranks.share(part)
                if counting:
                    batch = job.batch(mine, validation=True)
                    if ahead and then is not None:
                        ahead(ranks.share(then)[0], validation=True)
                    metrics.update(batch)
                meanwhile()
            ranks.merge(metrics)
            values = metrics.compute()
    finally:
        job.model.train()
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _with_next(parts: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Each part with the one after it."""
    before: Tensor | None = None
    for part in parts:
        if before is not None:
            yield before, part
        before = part
    if before is not None:
        yield before, None
