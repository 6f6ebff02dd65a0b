"""PR105: the precision is not stated

## Why

A trainer that is told nothing takes its default, and for most that is fp32: a quarter to a sixteenth of what the GPU
can do, at twice the memory. A run of 24.5 hours went that way.

## Fails

```yaml gpu=RTX4090
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001}
```

## Passes

```yaml gpu=RTX4090
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001, precision: bf16}
```

```yaml gpu=RTX4090
trainer: {max_steps: 200, batch_size: 4, lr: 0.0001}
```

## What to do

State it. Where the trainer's default is known, the adapter says it (`defaults: {training.precision: bf16}`); on a long
run PR101 judges that. Smoke tests may leave it out.

## Policy

A run of at most `smoke_steps` optimizer steps is a smoke test.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice

SEVERITY: Severity = "warning"
POLICY = ("smoke_steps",)


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    source, steps, length = facts.source("training.precision"), facts.get("run.steps"), facts.get("run.length")
    default = source is not None and source.kind == "default" and facts.foreign
    if "training.precision" in facts.values and not default:
        facts.need("training.precision")  # what is there cannot be read: not checked
        return
    if default and (facts.get("training.precision") != "fp32" or (length is not None and length.long)):
        return  # a good default, or PR101's concern
    if steps is not None and steps <= facts.policy["smoke_steps"]:
        return
    gpu = facts.get("gpu")
    name = f"a {gpu.name}" if gpu else "a GPU"
    wanted = "bf16" if gpu is None or "bf16" in gpu.peak else "fp16"
    message = f"nothing here says in which precision {name} computes; the default of "
    message += f"{facts.dialect if default else 'most trainers'} is fp32"
    at = facts.place("training.precision", "run.steps", "training.batch_size", "training.epochs", "compute.gpu")
    yield Finding(message, at=at, fix=advice.precision(facts, wanted))
