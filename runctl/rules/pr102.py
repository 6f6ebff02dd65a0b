"""PR102: a precision that the GPU does not have

## Why

bf16 needs an Ampere GPU or later and fp8 an Ada or Hopper; a T4 or V100 emulates bf16 slowly or fails at the first
step, on the paid machine, after the data has loaded.

## Fails

```yaml
training: {steps: 100, precision: bf16}
compute: {gpu: T4}
```

## Passes

```yaml
training: {steps: 100, precision: bf16}
compute: {gpu: L4}
```

## What to do

Choose a GPU that has the precision (`runctl gpus` lists them), or set `training.precision: fp32`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, precision = facts.need("gpu"), facts.need("training.precision")
    if precision not in gpu.peak:
        message = f"{facts.says('training.precision')}, but compute.gpu {gpu.name} has only {', '.join(gpu.peak)}"
        fix = "choose a GPU that has it (L4, A10, A100-40GB, …), or set training.precision: fp32"
        yield Finding(message, at=facts.place("training.precision", "compute.gpu"), fix=fix)
