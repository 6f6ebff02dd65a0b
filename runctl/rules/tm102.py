"""TM102: the timeout may end the run before it is done

## Why

Estimates of time were off by three to five times, every time. A timeout just above the likely time is a coin toss:
three runs in a row were ended in the middle of an epoch.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {gpu: A100-40GB, timeout: 12h}
```

## Passes

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {gpu: A100-40GB, timeout: 96h}
```

## What to do

Raise `compute.timeout` above the high end of the estimate, or narrow the estimate: `runctl probe` measures the pace. A
run that is ended by its timeout goes on from its last checkpoint: `runctl resume`. Below the likely time it is TM101.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules.tm101 import allowed, longer, room, said
from runctl.units import format_duration

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    timeout = facts.need("compute.timeout")
    if timeout is None:
        return
    time = facts.need("estimate.time")
    if time.likely <= allowed(facts, timeout) < time.high:
        likely, high = (format_duration(value) for value in (time.likely, time.high))
        given = said(facts, timeout)
        key = facts.key("compute.timeout")
        message = f"{key} is {given}; the run likely takes {likely}, but may take {high} ({time.basis})"
        measure = ", or measure the pace" + ("" if facts.foreign else " with runctl probe")
        fix = longer(facts, time.high) + ("" if time.measured else measure)
        yield Finding(message, at="compute.timeout", fix=fix, edit=room(facts, time.high))
