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

Make the batch smaller and accumulate (the examples of an optimizer step stay the same), or take one of the other
changes that the finding names: each was estimated by itself and fits with its whole range. The estimate is a trace of
the training step with a model of the allocator on top, not measured on CUDA yet: an error where its likely value does
not fit, a warning where only its high end does not. Where a validation alone does not fit it is ME106.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.estimate import fits
from runctl.estimate.memory import Memory
from runctl.facts import Facts, Finding, Severity
from runctl.rules.me106 import training_bytes
from runctl.units import format_bytes

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, memory = facts.need("gpu"), facts.need("estimate.memory")
    if memory.high <= gpu.usable_bytes or training_bytes(memory) <= gpu.usable_bytes < memory.likely:
        return  # it fits, or its validation alone does not (ME106)
    span = f"{format_bytes(memory.low)} to {format_bytes(memory.high)}"
    over = memory.likely - gpu.usable_bytes
    room = f"the {format_bytes(gpu.usable_bytes)} that a {gpu.name} offers"
    if over > 0:
        message = f"the estimated peak of {format_bytes(memory.likely)} ({span}) is {format_bytes(over)} above {room}"
    else:
        message = f"the estimated peak of {format_bytes(memory.likely)} fits, but its range ({span}) goes above {room}"
    severity: Severity = "error" if over > 0 else "warning"
    yield Finding(message, at=facts.place("training.batch_size", "compute.gpu"), fix=_fix(memory), severity=severity)


def _fix(memory: Memory) -> str:
    """The single changes that fit, each estimated anew."""
    changes = fits.changes(memory.request)
    if not changes:
        return "no single change makes it fit: make the model or its context smaller"
    return "one of these fits: " + "; ".join(f"{change} ({format_bytes(change.memory.high)})" for change in changes)
