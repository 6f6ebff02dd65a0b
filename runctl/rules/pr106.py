"""PR106: fp16 where the GPU has bf16

## Why

A smoke config said "prefer fp16 on a 3090; bf16 is for the A100". The 3090 has bf16 as well, at the same rate, and in
fp16 the run was NaN after its first step. bf16 holds as large numbers as fp32 and needs no loss scaling.

## Fails

```yaml gpu=RTX3090
trainer: {max_steps: 200, batch_size: 1, lr: 0.0002, precision: fp16}
```

## Passes

```yaml gpu=RTX3090
trainer: {max_steps: 200, batch_size: 1, lr: 0.0002, precision: bf16}
```

```yaml gpu=T4
trainer: {max_steps: 200, batch_size: 1, lr: 0.0002, precision: fp16}
```

## What to do

Set bf16. fp16 is right on GPUs before Ampere (T4, V100), and for models that were trained in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used") or facts.need("training.precision") != "fp16":
        return
    gpu = facts.need("gpu")
    if "bf16" in gpu.peak:
        message = f"{facts.says('training.precision')}, but a {gpu.name} has bf16, whose range is that of fp32"
        severity: Severity | None = None
        if advice.bare(facts):
            key = facts.key("training.precision")
            message = f"{key} is true, which most trainers take for fp16, but a {gpu.name} has bf16, with fp32's range"
            severity = "note"  # what it means is the trainer's to say
        fix = advice.precision(facts, "bf16")
        yield Finding(message, at=facts.place("training.precision", "compute.gpu"), fix=fix, severity=severity)
