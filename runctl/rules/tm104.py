"""TM104: an expensive run whose pace nobody measured

## Why

"500 to 1,000 samples a second, 15 hours, $21" were 43 to 55 samples in truth, and 30 hours. A run was started at 39
tokens a second as a matter of 73 hours; it would have taken 61 days. A minute of real steps would have told.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 5, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
```

## Passes

```yaml
data: {max_games: 100}
training: {epochs: 1, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
```

## What to do

Run `runctl probe CONFIG` on the device that the run is to have, or `runctl launch CONFIG --probe-first`. A finished run
of the same shape serves as well; one of another shape on the same device is a basis too.

Of another trainer's config it stays a warning: its pace is measured by itself.

## Policy

A run likely to cost more than `probe_cost` should rest on a measurement; above `probe_required` it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_usd

SEVERITY: Severity = "warning"
POLICY = ("probe_cost", "probe_required")


def check(facts: Facts) -> Iterable[Finding]:
    cost = facts.need("estimate.cost")
    if cost.likely <= facts.policy["probe_cost"]:
        return
    time = facts.need("estimate.time")
    if facts.need("estimate.pace") != "assumed":
        return
    span = f"{format_usd(cost.low)} to {format_usd(cost.high)}"
    message = f"the run likely costs {format_usd(cost.likely)} ({span}), and its pace is a guess: {time.basis}"
    severity: Severity = "error" if cost.likely > facts.policy["probe_required"] else "warning"
    fix = "run runctl probe on that device, or launch with --probe-first"
    if facts.foreign:
        severity = "warning"  # no measurement of runctl's could lift it
        fix = "measure the pace of some steps on that device first"
    at = facts.place("compute.gpu", "compute.backend", "training.epochs", "training.steps", "run.steps")
    yield Finding(message, at=at, fix=fix, severity=severity)
