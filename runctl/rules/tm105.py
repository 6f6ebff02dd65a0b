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

from runctl.config.every import Every
from runctl.estimate.cost import step_seconds
from runctl.facts import Facts, Finding, Severity
from runctl.units import counted, format_duration

SEVERITY: Severity = "warning"
POLICY = ("silence",)


def check(facts: Facts) -> Iterable[Finding]:
    given = facts.need("training.log_every")
    key, at = facts.key("training.log_every"), ("training.log_every", "training.steps", "training.epochs", "run.steps")
    limit = facts.policy["silence"]
    if given is None:
        if facts.need("run.length").long:
            message = f"{key} says that no metrics are written, and the run is long ({facts.need('run.length').why})"
            yield Finding(message, at=facts.place(*at), fix="write metrics every few minutes")
        return
    rows = given
    if isinstance(given, Every):
        if given.seconds is not None:
            rows = None
        else:
            rows = given.steps or max(1, round(given.epochs * facts.need("run.steps_per_epoch")))
    if rows is None:
        silence, said = given.seconds, f"{key} is {format_duration(given.seconds)}"
    else:
        steps = facts.need("run.steps")
        _, step, _ = step_seconds(facts)
        silence = min(rows, steps) * step
        said = f"{key} is {counted(rows, 'step')} of about {format_duration(step)}"
    if silence <= limit or rows == 1:
        return
    fix = f"set {key}: {max(1, int(limit / step))}" if rows is not None else "write a row every minute"
    yield Finding(f"{said}: a row every {format_duration(silence)}", at=facts.place(*at), fix=fix)
