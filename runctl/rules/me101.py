"""ME101: it does not fit into the GPU

## Why

Activation checkpointing lost in a copied config took 59.6 GB a GPU where 3 had sufficed; in another project
batches that did not fit were skipped in silence until half of the data was gone. An out-of-memory error comes
after the container, the data and the first epoch's wait have been paid for.

## Fails

```yaml
model: {d_model: 1024, n_layers: 24, context_len: 1000, chunk_size: 100}
training: {steps: 100, batch_size: 512, precision: bf16}
compute: {gpu: T4}
```

## Passes

```yaml
model: {d_model: 384, n_layers: 4, context_len: 10, chunk_size: 10}
training: {steps: 100, batch_size: 512, precision: bf16}
compute: {gpu: A100-40GB}
```

## What to do

Make the batch smaller and accumulate (the examples of an optimizer step stay the same), or take a larger GPU. The
estimate is a closed form with a wide bar: an error where its likely value does not fit, a warning where only its
high end does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.estimate.memory import Memory
from runctl.facts import Facts, Finding, Severity
from runctl.units import format_bytes

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, memory = facts.need("gpu"), facts.need("estimate.memory")
    if memory.high <= gpu.usable_bytes:
        return
    span = f"{format_bytes(memory.low)} to {format_bytes(memory.high)}"
    over = memory.likely - gpu.usable_bytes
    room = f"the {format_bytes(gpu.usable_bytes)} that a {gpu.name} offers"
    if over > 0:
        message = f"the estimated peak of {format_bytes(memory.likely)} ({span}) is {format_bytes(over)} above {room}"
    else:
        message = f"the estimated peak of {format_bytes(memory.likely)} fits, but its range ({span}) goes above {room}"
    severity: Severity = "error" if over > 0 else "warning"
    yield Finding(
        message, at=facts.place("training.batch_size", "compute.gpu"), fix=_fix(facts, memory, gpu), severity=severity
    )


def _fix(facts: Facts, memory: Memory, gpu: hardware.Gpu) -> str:
    """The change that would fit: a smaller batch with accumulation, or the smallest GPU that holds it."""
    batch, accumulation = facts.need("training.batch_size"), facts.get("training.accumulation", 1)
    larger = sorted(
        (other for other in hardware.catalogue().gpus.values() if other.usable_bytes >= memory.high), key=_cheapest
    )
    choices = []
    fits = memory.largest_batch(gpu.usable_bytes * memory.likely / memory.high)
    if 1 <= fits < batch:
        choices.append(f"training.batch_size: {fits} with accumulation: {-(-batch * accumulation // fits)}")
    if larger:
        choices.append(f"compute.gpu: {larger[0].name} ({format_bytes(larger[0].usable_bytes)})")
    return (
        "try " + ", or ".join(choices)
        if choices
        else "make the model or its context smaller: no GPU of the catalogue holds it"
    )


def _cheapest(gpu: hardware.Gpu) -> tuple[int, float]:
    price = gpu.prices.get("modal")
    return gpu.usable_bytes, price.usd_per_hour if price else 1e9
