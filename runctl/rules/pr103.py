"""PR103: fp16 without loss scaling

## Why

The gradients of most models are smaller than fp16 can hold: without scaling they become zero, and the loss stands still
or turns to NaN after a few steps. A smoke run in fp16 was NaN after its first step.

## Fails

```yaml
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, precision: fp16, loss_scaling: false}
```

## Passes

```yaml
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, precision: fp16, loss_scaling: true}
```

```yaml
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, precision: bf16, loss_scaling: false}
```

## What to do

Take bf16 where the GPU has it: it needs no scaling. Else switch the loss scaling on (a `GradScaler` in PyTorch). A
config that does not speak of it is not judged, unless its adapter knows what the trainer does
(`training.loss_scaling`).
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if facts.need("training.precision") != "fp16" or facts.need("training.loss_scaling"):
        return
    gpu = facts.get("gpu")
    fix = f"set {facts.key('training.loss_scaling')}: true"
    if gpu is None or "bf16" in gpu.peak:
        fix = f"{advice.precision(facts, 'bf16')}, which needs no scaling, or {fix}"
    message = f"{facts.says('training.precision')}, and the loss is not scaled: small gradients become zero"
    yield Finding(message, at=facts.place("training.loss_scaling", "training.precision"), fix=fix)
