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

Choose a GPU that has the precision (`runctl gpus` lists them), or set `training.precision: fp32`; a trainer that has
fp16 may take that.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.hardware import Gpu
from runctl.rules import advice

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, precision = facts.need("gpu"), facts.need("training.precision")
    if precision not in gpu.peak:
        where = "a" if facts.foreign else "compute.gpu"
        message = f"{facts.says('training.precision')}, but {where} {gpu.name} has only {', '.join(gpu.peak)}"
        others = "L40S, H100, …" if precision == "fp8" else "L4, A10, A100-40GB, …"
        fix = f"choose a GPU that has it ({others}), or {advice.precision(facts, _instead(gpu, facts.foreign))}"
        yield Finding(message, at=facts.place("training.precision", "compute.gpu"), fix=fix)


def _instead(gpu: Gpu, foreign: bool) -> str:
    """The best that the GPU has; runctl's own trainer knows no fp16."""
    return next((one for one in ("bf16", "fp16") if one in gpu.peak and (foreign or one == "bf16")), "fp32")
