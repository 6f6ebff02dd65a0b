"""ME102: it fits, with next to nothing to spare

## Why

Memory profiled on short batches was exceeded by the long ones, and they were skipped in silence: half of the data. A
run that fills a GPU to the brim dies of the first thing that the estimate does not know: a validation, a longer
sequence, another process.

## Fails

```yaml
model: {d_model: 384, n_layers: 4}
training: {steps: 100, batch_size: 11000}
compute: {gpu: T4}
```

## Passes

```yaml
model: {d_model: 384, n_layers: 4}
training: {steps: 100, batch_size: 4096}
compute: {gpu: T4}
```

## What to do

Halve `training.batch_size` and double `training.accumulation`, or measure it: `runctl probe` on that GPU.

## Policy

At least the share `memory_spare` of the GPU's memory should stay free at the high end of the estimate. Where that end
does not fit at all, ME101 speaks.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_bytes

SEVERITY: Severity = "warning"
POLICY = ("memory_spare",)


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, memory = facts.need("gpu"), facts.need("estimate.memory")
    spare = gpu.usable_bytes - memory.high
    if 0 <= spare < facts.policy["memory_spare"] * gpu.usable_bytes:
        message = (
            f"the estimated peak of up to {format_bytes(memory.high)} leaves {format_bytes(spare)} "
            f"({spare / gpu.usable_bytes:.0%}) of the {format_bytes(gpu.usable_bytes)} of {gpu.name}"
        )
        batch, accumulation = facts.key("training.batch_size"), facts.key("training.accumulation")
        fix = f"halve {batch} and double {accumulation}, or measure it"
        fix += "" if facts.foreign else " with runctl probe"
        yield Finding(message, at=facts.place("training.batch_size", "compute.gpu"), fix=fix)
