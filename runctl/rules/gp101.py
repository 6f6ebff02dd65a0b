"""GP101: a GPU that the catalogue does not know

## Why

A provider's client accepts any GPU name and its server refuses it late; every check of memory, precision, time and
cost needs to know the GPU.

## Fails

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB}
```

## What to do

Take a name of `runctl gpus`, with `:N` for several. It is an error on your own machine too: nothing about memory,
precision and time could be checked.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    facts.need("compute.gpu")
    if (problem := facts.get("gpu.problem")) is not None:
        message, hint = problem
        yield Finding(f"compute.gpu: {message}", at="compute.gpu", fix=hint)
