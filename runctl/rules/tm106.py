"""TM106: hours that cannot be

## Why

"39 tokens a second, so 50,000 steps are about 73 hours, GO": the same numbers make 61 days. Arithmetic belongs to a
machine.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 1024, n_layers: 12}
training: {epochs: 20, batch_size: 512, precision: bf16}
compute: {gpu: A100-80GB}
budget: {max_hours: 1}
```

## Passes

```yaml
data: {max_games: 2000}
model: {d_model: 384, n_layers: 4}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {gpu: A100-80GB}
budget: {max_hours: 6}
```

## What to do

Shorten the run or raise `budget.max_hours`: it is enforced, and ends the run. It is an error where even the low end of
the estimate is longer, which no loader and no kernel can mend, and a warning where the likely time is.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    hours = facts.need("budget.max_hours")
    if hours is None:
        return
    time = facts.need("estimate.time")
    if time.likely <= hours * 3600:
        return
    low, likely, high = (format_duration(value) for value in (time.low, time.likely, time.high))
    impossible = time.low > hours * 3600
    said = f"takes at least {low}, likely {likely}" if impossible else f"likely takes {likely} ({low} to {high})"
    message = f"budget.max_hours is {hours:g}, but the run {said} ({time.basis})"
    severity: Severity = "error" if impossible else "warning"
    yield Finding(
        message,
        at="budget.max_hours",
        fix=f"shorten the run, or set budget.max_hours above {time.high / 3600:.3g}",
        severity=severity,
    )
