"""OP101: the warm-up is as long as the run

## Why

The rate rises during the warm-up and only then falls. Where the warm-up never ends the peak is never reached, and the
run says nothing about the rate that its config names. It happens when a long run's warm-up stays in a config whose
length was cut: an edit of `steps: 500` once also changed `warmup_steps`, and nobody saw the plan that came out.

## Fails

```yaml
training: {steps: 500, warmup_steps: 2000}
```

## Passes

```yaml
training: {steps: 500, warmup_steps: 50}
```

```yaml
training: {steps: 20}
```

## What to do

Set the warm-up to a small share of the run, 1 to 10 %. Where the run's length comes from `--set`, as in a smoke, it
is a warning, and also where another trainer counts its length otherwise; a default is never at fault, because
runctl's own trainer cuts it to the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import lengths
from runctl.units import counted

SEVERITY: Severity = "error"
SHARE = 0.05  # of the run, in the fix


def check(facts: Facts) -> Iterable[Finding]:
    warmup, share = facts.get("training.warmup_steps"), facts.get("training.warmup_ratio")
    if not warmup and share is not None:
        if share >= 1:
            message = f"{facts.says('training.warmup_ratio')}: the whole run is warm-up"
            fix = f"set {facts.key('training.warmup_ratio')}: {SHARE}"
            guessed: Severity | None = "warning" if facts.dialect == "generic" else None  # it may be in percent
            yield Finding(message, at="training.warmup_ratio", fix=fix, severity=guessed)
        return
    warmup, steps = facts.need("training.warmup_steps"), facts.need("run.steps")
    source = facts.source("training.warmup_steps")
    if warmup < steps or not warmup or (source and source.kind == "default"):
        return
    message = f"{facts.key('training.warmup_steps')} is {warmup:,}, but the run has {counted(steps, 'step')}"
    fix = f"set {facts.key('training.warmup_steps')}: {max(1, round(steps * SHARE))}"
    counted_in_steps = facts.get("training.steps") is not None or not facts.foreign
    severity: Severity | None = None if counted_in_steps and not lengths.overridden(facts) else "warning"
    yield Finding(message, at="training.warmup_steps", fix=fix, severity=severity)
