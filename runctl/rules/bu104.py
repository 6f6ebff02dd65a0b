"""BU104: an expensive run of a model that has never run

## Why

A run of 24.5 hours on two A100s was the first that its config ever had, and left nothing; a scaling grid's first run
trained for an hour, and then its driver died of a missing field, with 30 hours in the queue. A short run of the same
config finds such things for cents.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 1024, n_layers: 12}
training: {epochs: 5, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h, retries: 5}
budget: {max_cost_usd: 500}
```

## Passes

```yaml
data: {max_games: 100}
training: {epochs: 1, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
```

## What to do

Run a canary first: `runctl probe CONFIG`, on whatever device there is, or `runctl launch CONFIG --probe-first`. A shape
has run before if a probe or a run of it left a calibration in this project.

## Policy

A run likely to cost more than `canary_cost` should not be the first of its shape.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_usd

SEVERITY: Severity = "warning"
POLICY = ("canary_cost",)


def check(facts: Facts) -> Iterable[Finding]:
    cost = facts.need("estimate.cost")
    if cost.likely <= facts.policy["canary_cost"] or facts.need("calibration.before"):
        return
    message = f"nothing of this shape has run in this project, and the run likely costs {format_usd(cost.likely)}"
    at = facts.place("model.d_model", "training.batch_size", "compute.gpu")
    yield Finding(message, at=at, fix="run a canary first: runctl probe, or launch with --probe-first")
