"""TM101: the timeout ends the run before it is done

## Why

Three runs in a row hit a two-hour timeout in the middle of an epoch, then a four-hour one: each attempt was
paid in full and had to be done again.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 512, precision: bf16}
compute: {gpu: A100-40GB, timeout: 30m}
```

## Passes

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 512, precision: bf16}
compute: {gpu: A100-40GB, timeout: 24h}
```

```yaml
training: {steps: 100}
```

## What to do

Raise `compute.timeout` above the estimate's high end, or shorten the run. A timeout below the likely time is an
error; the range is shown beside it, because without a measurement it is wide.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    timeout = facts.need("compute.timeout")
    if timeout is None:
        return
    time = facts.need("estimate.time")
    if timeout < time.likely:
        low, likely, high = (format_duration(value) for value in (time.low, time.likely, time.high))
        given = format_duration(timeout)
        message = f"compute.timeout is {given}, but the run likely takes {likely} ({low} to {high}, {time.basis})"
        yield Finding(message, at="compute.timeout", fix=f"set compute.timeout above {high}, or shorten the run")
