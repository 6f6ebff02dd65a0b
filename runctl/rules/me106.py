"""ME106: training fits, its validation does not

## Why

A run that fits for an epoch and dies in its first validation has paid for the epoch. It happens where the table of
outcomes is large: the metrics hold whole rows of scores, of which training keeps fewer.

## Fails

```yaml
encoding: {action_vocab: 200000}
model: {d_model: 16, n_layers: 2, headdim: 16, context_len: 60, chunk_size: 30}
training: {steps: 100, batch_size: 40000, precision: bf16, activation_checkpointing: true}
compute: {gpu: A10}
```

## Passes

```yaml
model: {d_model: 384, n_layers: 4}
training: {steps: 100, batch_size: 512, precision: bf16}
compute: {gpu: A100-40GB}
```

## What to do

Make `training.batch_size` smaller and `training.accumulation` larger: validations use the same batch. A smaller
vocabulary helps most. Where training itself does not fit, ME101 speaks.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.estimate import traced
from runctl.estimate.memory import Memory, Request
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import format_bytes

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    gpu, memory = facts.need("gpu"), facts.need("estimate.memory")
    if not isinstance(memory.request, Request):
        raise NotChecked("what the validation of a program that is not runctl's own takes is not known")
    if memory.likely <= gpu.usable_bytes or (training := training_bytes(memory)) > gpu.usable_bytes:
        return  # it fits, or it is ME101's concern
    message = (
        f"training takes about {format_bytes(training)}, but a validation {format_bytes(memory.likely)}, more than the "
        f"{format_bytes(gpu.usable_bytes)} of {gpu.name}"
    )
    fix = "make training.batch_size smaller and training.accumulation larger, or the vocabulary smaller"
    yield Finding(message, at=facts.place("training.batch_size", "compute.gpu"), fix=fix)


def training_bytes(memory: Memory) -> float:
    """The likely peak of everything before the first validation."""
    request = memory.request
    if not isinstance(request, Request) or not memory.phase.startswith("evaluate"):
        return memory.likely
    device: traced.Device = "cuda" if request.gpu else "cpu"
    before = traced.peak(request.shape, device, ("load", *traced.STEP)).total
    return memory.likely - (traced.peak(request.shape, device).total - before) * traced.slack().likely
