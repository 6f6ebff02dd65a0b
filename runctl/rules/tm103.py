"""TM103: longer than the provider lets one attempt run

## Why

A timeout of seven days was rejected before any worker was allocated, and one of thirty hours failed at launch: the
provider ends every attempt after 24 hours. A run that needs longer goes on only where it is tried again and resumes
from a checkpoint.

## Fails

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 30h}
```

```yaml
data: {max_games: 22000}
model: {d_model: 1024, n_layers: 12}
training: {epochs: 20, batch_size: 512, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 24h}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 24h}
```

## What to do

Set `compute.timeout` to at most the provider's limit (24 hours at Modal, `data/hardware.yaml`), `compute.retries` so
that the attempts together suffice, and `checkpoint.every` so that each goes on where the last one ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from runctl import hardware
from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice
from runctl.units import counted, format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    backend = facts.need("compute.backend")
    provider = hardware.catalogue().providers.get(backend)
    if provider is None or provider.limits is None:
        return
    limits, retries = provider.limits, facts.get("compute.retries", 0)
    most = format_duration(limits.timeout)
    timeout = facts.need("compute.timeout")
    if timeout is not None and timeout > limits.timeout:
        message = (
            f"{facts.key('compute.timeout')} is {format_duration(timeout)}, but {backend} ends an attempt after {most}"
        )
        yield Finding(
            f"{message} ({limits.source})", at="compute.timeout", fix=f"set {facts.key('compute.timeout')}: {most}"
        )
    time = facts.need("estimate.time")
    if time.likely <= limits.timeout:
        return
    needed = math.ceil(time.likely / limits.timeout) - 1
    saves = facts.get("checkpoint.every") is not None
    if retries >= needed and saves:
        return
    likely = format_duration(time.likely)
    message = f"the run likely takes {likely} ({time.basis}), but {backend} ends an attempt after {most}"
    message += f", and there {'is' if retries == 0 else 'are'} {counted(retries + 1, 'attempt')}"
    message += "" if saves else " without checkpoints to go on from"
    fix = "shorten the run"
    if needed <= limits.retries:
        save = "" if saves else f" and {advice.cadence(facts).removeprefix('set ')}"
        fix = f"set {facts.key('compute.retries')}: {max(needed, 1)}{save}, or {fix}"
    yield Finding(message, at=facts.place("compute.timeout", "compute.backend"), fix=fix)
