"""OP104: the schedule is longer than the run

## Why

A trainer sized its cosine in forward passes but ticked it once for each optimizer step. With an accumulation of two
every run ended at 53 % of its peak rate instead of near zero, and none of the runs that were compared was what its
config said.

## Fails

```yaml
training: {max_steps: 25000, gradient_accumulation: 2, batch_size: 4, learning_rate: 2.0e-4, lr_decay_steps: 50000}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.steps: training.max_steps
      training.accumulation: training.gradient_accumulation
      training.batch_size: training.batch_size
      training.lr: training.learning_rate
      training.schedule_steps: training.lr_decay_steps
```

## Passes

```yaml
training: {max_steps: 25000, gradient_accumulation: 2, batch_size: 4, learning_rate: 2.0e-4, lr_decay_steps: 25000}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.steps: training.max_steps
      training.accumulation: training.gradient_accumulation
      training.batch_size: training.batch_size
      training.lr: training.learning_rate
      training.schedule_steps: training.lr_decay_steps
```

## What to do

Size the schedule in optimizer steps: forward passes ÷ accumulation. runctl's own trainer always does. For another
trainer it is known only where the config or its adapter says how long the schedule is (`training.schedule_steps`), and
not checked otherwise. Where the run's length comes from `--set` it is a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import lengths
from runctl.units import counted

SEVERITY: Severity = "error"
SPARE = 1.1  # a schedule that is a tenth longer is rounding, not an error
_FLAT = ("constant", "none", "plateau", "inverse", "wsd")


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        return  # sized by the same arithmetic as the run (runctl/train/schedule.py)
    if facts.lacks("training.schedule_steps"):
        return  # it ends with the run
    horizon, steps = facts.need("training.schedule_steps"), facts.need("run.steps")
    shape = str(facts.get("training.schedule", "")).lower()
    if horizon <= steps * SPARE or any(word in shape for word in _FLAT):
        return
    warmup = min(facts.get("training.warmup_steps") or 0, steps)
    reached = (steps - warmup) / (horizon - warmup)
    left = 0.5 * (1 + math.cos(math.pi * reached)) if "linear" not in shape else 1 - reached
    key = facts.key("training.schedule_steps")
    message = f"{key} is {horizon:,}, but the run has {counted(steps, 'optimizer step')}"
    accumulation = facts.get("training.accumulation", 1)
    if accumulation > 1 and abs(horizon - steps * accumulation) <= accumulation:
        message += f" of {accumulation} forward passes each: the schedule counts forward passes"
    message += f"; the rate ends at about {left:.0%} of its peak"
    severity: Severity | None = "warning" if lengths.overridden(facts) else None
    fix = f"set {key}: {steps}"
    yield Finding(message, at=facts.place("training.schedule_steps", "run.steps"), fix=fix, severity=severity)
