"""PR101: fp32 on a long GPU run

## Why

A 24.5-hour run trained in fp32 on two A100s without need: without TF32 an A100 does 19.5 TFLOP/s in fp32 and 312 in
bf16, and activations take twice the memory. On a long run that is most of the bill.

## Fails

```yaml
training: {steps: 50000, precision: fp32}
compute: {gpu: A100-80GB}
```

```yaml gpu=A100-80GB:2
trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003, precision: fp32, save_steps: 1000}
```

## Passes

```yaml
training: {steps: 50000, precision: bf16}
compute: {gpu: A100-80GB}
```

```yaml
training: {steps: 200, precision: fp32}
compute: {gpu: A100-80GB}
```

## What to do

Set `training.precision: bf16`: weights and optimizer stay fp32, only the arithmetic changes. It is a warning where
fp32 products run as TF32, and where the GPU has no bf16 so that another GPU is the only remedy (T4, V100). A trainer
whose default is fp32 is judged where its adapter says so; where nobody knows the default it is PR105.

## Policy

A run is long if it is estimated to take more than `long_run`, or has more than `long_run_steps` optimizer steps
where no measured time is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice

SEVERITY: Severity = "error"
POLICY = ("long_run", "long_run_steps")


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used") or facts.need("training.precision") != "fp32":
        return
    length = facts.need("run.length")
    if not length.long:
        return
    gpu = facts.get("gpu")
    name = gpu.name if gpu else "the GPU"
    message = f"{facts.says('training.precision')} on {name}, and the run is long ({length.why})"
    if gpu is not None and "bf16" not in gpu.peak:
        fix = f"choose a GPU with bf16, such as L4, A10 or A100-40GB, and {advice.precision(facts, 'bf16')}"
        yield Finding(
            f"{message}; {name} has no bf16",
            at=facts.place("training.precision", "compute.gpu"),
            fix=fix,
            severity="warning",
        )
        return
    if gpu is not None:
        message += f": {gpu.peak['fp32'] / 1e12:g} TFLOP/s against {gpu.peak['bf16'] / 1e12:g} in bf16"
    severity: Severity | None = "warning" if facts.get("training.tf32") else None
    yield Finding(
        message,
        at=facts.place("training.precision", "compute.gpu"),
        fix=advice.precision(facts, "bf16"),
        severity=severity,
    )
