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
not fit, a warning where only its high end does not. Of a model that is declared, or read from another trainer's config,
much is assumed: there it is an error where even the low end does not fit. Where a validation alone does not fit it is
ME106.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runctl.estimate import fits
from runctl.estimate.memory import Request
from runctl.facts import Edit, Facts, Finding, Severity
from runctl.rules import advice
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
    room = f"the {format_bytes(gpu.usable_bytes)} of {gpu.name}"
    sure = over > 0 if isinstance(memory.request, Request) else memory.low > gpu.usable_bytes
    if over > 0 and not sure:
        message = (
            f"the estimated peak of {format_bytes(memory.likely)} is above {room}, but its low end is not ({span})"
        )
    elif over > 0 and memory.low == memory.high:
        message = (
            f"it takes at least {format_bytes(memory.low)}, {format_bytes(over)} more than {room} ({memory.basis})"
        )
    elif over > 0:
        message = f"the estimated peak of {format_bytes(memory.likely)} ({span}) is {format_bytes(over)} above {room}"
    else:
        message = f"the estimated peak of {format_bytes(memory.likely)} fits, but its range ({span}) goes above {room}"
    severity: Severity = "error" if sure else "warning"
    count = facts.get("gpu.count", 1)
    if sure and _unsaid(facts) and memory.low / count <= gpu.usable_bytes:
        severity = "warning"
        message += f"; nothing here says whether the {count} GPUs share out the weights' state"
    at = facts.place("training.batch_size", "compute.gpu", "model.d_model", "declares.parameters", "run.steps")
    changes = fits.changes(memory.request)
    yield Finding(message, at=at, fix=_fix(facts, changes), severity=severity, edit=_edit(facts, changes))


def _unsaid(facts: Facts) -> bool:
    """Whether several GPUs may share out weights, gradients and optimizer state by what only the launcher is told."""
    several = facts.get("gpu.count", 1) > 1 and facts.foreign and facts.dialect == "generic"
    return several and "training.distributed" not in facts.values and "training.sharded" not in facts.values


def _edit(facts: Facts, changes: Sequence[fits.Change]) -> Edit | None:
    """The least intrusive change that is one of the config alone: not of the GPU, which has another price."""
    settings = next((one.settings for one in changes if "compute.gpu" not in one.settings), None)
    if settings is None or facts.foreign:
        return None
    (key, value), *more = [(key, str(value).lower()) for key, value in settings.items()]
    return Edit(key, value, safe=False, also=tuple(more))


def _fix(facts: Facts, changes: Sequence[fits.Change]) -> str:
    """The single changes that fit, each estimated anew."""
    if not changes:
        adapter = "load it in 4 bits" if facts.get("training.adapter") else "train an adapter of it"
        more = f"shard it over several GPUs, {adapter}, or " if facts.foreign else ""
        return f"no single change makes it fit: {more}make the model or its context smaller"
    return "one of these fits: " + "; ".join(
        f"{_words(facts, one)} ({format_bytes(one.memory.high)})" for one in changes
    )


def _words(facts: Facts, change: fits.Change) -> str:
    """The settings of a change, as the config's dialect writes them."""
    if not facts.foreign:
        return str(change)
    found = []
    for key, value in change.settings.items():
        name = _TRAINING.get(key, key)
        if name == "training.precision":
            found.append(advice.precision(facts, str(value)).removeprefix("set "))
        elif key == "compute.gpu":
            found.append(f"a {value}")
        elif key == "declares.kernels":
            found.append(f"{value} attention")
        else:
            found.append(f"{facts.key(name)}: {value}")
    return " with ".join(found)


_TRAINING = {
    f"declares.{name}": f"training.{name}"
    for name in ("batch_size", "accumulation", "activation_checkpointing", "precision", "optimizer")
}
