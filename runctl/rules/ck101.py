"""CK101: a long run that saves no checkpoints

## Why

A 50,000-step run without checkpoints ran 24.5 hours on two A100s and left nothing to keep; every crash,
timeout and preemption then costs the whole run.

## Fails

```yaml
training: {steps: 50000}
checkpoint: {every: never}
```

## Passes

```yaml
training: {steps: 50000}
checkpoint: {every: 10m}
```

```yaml
training: {steps: 200}
checkpoint: {every: never}
```

## What to do

Set `checkpoint.every` to the time that you can afford to lose: `5m`, `10m` or `500 steps`. Short runs need none.

## Policy

A run is long if it is estimated to take more than `long_run`, or has more than `long_run_steps` optimizer steps
where no measured time is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
POLICY = ("long_run", "long_run_steps")


def check(facts: Facts) -> Iterable[Finding]:
    if facts.need("checkpoint.every") is not None:
        return
    length = facts.need("run.length")
    if length.long:
        message = f"checkpoint.every is never, but the run is long ({length.why}): if it dies, all of it is lost"
        yield Finding(
            message,
            at=facts.place("checkpoint.every", "training.steps", "training.epochs"),
            fix="set checkpoint.every: 10m",
        )
