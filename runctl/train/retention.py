"""Which checkpoints stay: the newest `keep_last`, and the best `keep_best` by the metric.

Only a checkpoint taken at the step of a validation has a value of the metric; the others compete by age alone.
The newest is always among those that stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runctl import record
from runctl.config.model import Checkpoint
from runctl.train import checkpoint


def prune(run: record.RunDir, config: Checkpoint) -> list[str]:
    """Delete the checkpoints that need not stay; returns their names."""
    manifests = {path: checkpoint.read_manifest(path) for path in checkpoint.folders(run)}
    values = {path: value(manifest or {}, config.metric) for path, manifest in manifests.items()}
    oldest_first = list(values)
    sign = 1.0 if config.mode == "min" else -1.0
    ranked = sorted((sign * number, path) for path, number in values.items() if number is not None)
    kept = {*oldest_first[-config.keep_last :], *(path for _, path in ranked[: config.keep_best])}
    doomed = [path for path in oldest_first if path not in kept]
    for path in doomed:
        checkpoint.discard(run, path)
    return [path.name for path in doomed]


def value(manifest: Mapping[str, Any], metric: str) -> float | None:
    """The metric's value in a checkpoint's manifest; None if it has none or it is not finite."""
    number = (manifest.get("metrics") or {}).get(metric)
    return float(number) if isinstance(number, int | float) and math.isfinite(number) else None


def better(new: float | None, old: float | None, mode: str) -> bool:
    """Whether `new` beats `old`; anything finite beats nothing, and NaN never does."""
    if new is None or not math.isfinite(new):
        return False
    return old is None or (new < old if mode == "min" else new > old)
