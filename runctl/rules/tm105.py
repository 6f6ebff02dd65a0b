"""TM105: too long without a row of metrics

## Why

Thirty minutes lay between two lines of a log; "Starting training…" and then silence proved nothing, and an evening
passed before anybody saw that the run had hung. runctl's heartbeat says that the loop lives; only a row of metrics says
that it learns.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 20, batch_size: 4096, precision: bf16, log_every: 5000}
compute: {gpu: A100-40GB}
```

## Passes

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 20, batch_size: 4096, precision: bf16, log_every: 50}
compute: {gpu: A100-40GB}
```

## What to do

Lower `training.log_every`: a row costs next to nothing.

## Policy

Not more than `silence` should likely pass between two rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.estimate.cost import step_seconds
from runctl.facts import Facts, Finding, Severity
from runctl.units import counted, format_duration

SEVERITY: Severity = "warning"
POLICY = ("silence",)


def check(facts: Facts) -> Iterable[Finding]:
    rows, steps = facts.need("training.log_every"), facts.need("run.steps")
    _, step, _ = step_seconds(facts)
    limit = facts.policy["silence"]
    silence = min(rows, steps) * step
    if silence <= limit or rows == 1:
        return
    message = f"training.log_every is {counted(rows, 'step')} of about {format_duration(step)}: a row every "
    message += format_duration(silence)
    fix = f"set training.log_every: {max(1, int(limit / step))}"
    yield Finding(message, at=facts.place("training.log_every", "training.steps", "training.epochs"), fix=fix)
