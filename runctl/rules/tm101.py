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

import math
from collections.abc import Iterable

from runctl.facts import Edit, Facts, Finding, Severity
from runctl.units import format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    timeout = facts.need("compute.timeout")
    if timeout is None:
        return
    time = facts.need("estimate.time")
    if timeout < time.likely:
        low, likely, high = (format_duration(value) for value in (time.low, time.likely, time.high))
        given, key = format_duration(timeout), facts.key("compute.timeout")
        message = f"{key} is {given}, but the run likely takes {likely} ({low} to {high}, {time.basis})"
        fix = f"set {key} above {high}, or shorten the run"
        yield Finding(message, at="compute.timeout", fix=fix, edit=room(facts, time.high))


def room(facts: Facts, seconds: float) -> Edit | None:
    """A timeout with a tenth to spare; none of more than a week, nor in another trainer's unit."""
    minutes = math.ceil(seconds * 1.1 / 60)
    value = f"{minutes}m" if minutes < 120 else f"{math.ceil(minutes / 60)}h"
    return None if facts.foreign or minutes > 7 * 24 * 60 else Edit("compute.timeout", value, safe=False)
