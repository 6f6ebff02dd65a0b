"""CK110: what is not saved yet cannot be saved when the machine is taken away

## Why

A provider that needs a machine back tells the process and ends it half a minute later. What was not saved by then is
lost: a run that counts on saving at the end, or on that half minute, loses all of it, and a checkpoint that takes
longer than the notice is never whole.

## Fails

```yaml
model: {d_model: 16384, n_layers: 64}
training: {steps: 20000, batch_size: 512, precision: bf16}
checkpoint: {every: 2h}
compute: {backend: modal, gpu: B200, cpu: 8, memory: 900GiB, timeout: 24h, retries: 10}
budget: {max_cost_usd: 5000, max_hours: 200}
```

## Passes

```yaml
model: {d_model: 384, n_layers: 4}
training: {steps: 20000, batch_size: 512, precision: bf16}
checkpoint: {every: 10m}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h, retries: 10}
budget: {max_cost_usd: 40, max_hours: 20}
```

## What to do

Save by time or steps, often enough that losing what lies between two saves does not matter; runctl's trainer also saves
when it is told to stop, which is why a checkpoint that is written in time needs nothing more. A long run without any
checkpoint is CK101's concern.

## Policy

A checkpoint is written at `write_rate`. Up to `risk_time` may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice, me105
from runctl.units import format_bytes, format_duration

SEVERITY: Severity = "warning"
POLICY = ("write_rate", "risk_time")


def check(facts: Facts) -> Iterable[Finding]:
    backend, every = facts.need("compute.backend"), facts.need("checkpoint.every")
    provider = hardware.catalogue().providers.get(backend)
    limits = provider.limits if provider else None
    if limits is None or limits.grace is None:
        return
    length = facts.get("run.length")
    if every is None and length is not None and length.long:
        return
    lost = facts.need("estimate.at_risk").seconds[1]
    if lost <= facts.policy["risk_time"]:
        return
    notice = f"{backend} ends a process {format_duration(limits.grace)} after it takes the machine away"
    between = (
        f"{format_duration(lost)} lie between two saves" if every is not None else "nothing is saved before the end"
    )
    at = facts.place("checkpoint.every", "compute.backend", "run.steps", "training.steps")
    if facts.get("task") == "command":
        message = (
            f"{notice} ({limits.source}), and {between}: nothing says that the program saves when it is told to stop"
        )
        yield Finding(message, at=at, fix=advice.cadence(facts))
        return
    one = me105.checkpoint_bytes(facts)
    writing = one / facts.policy["write_rate"]
    if writing > limits.grace:
        takes = f"a checkpoint of {format_bytes(one)} takes about {format_duration(writing)} to write"
        message = f"{notice} ({limits.source}), but {takes} (at {facts.policy.show('write_rate')}), and {between}"
        yield Finding(message, at=at, fix=advice.cadence(facts))
