"""OP105: batch, accumulation and devices do not make the global batch

## Why

A global batch of 2 became 2 on every rank, so that the run took steps of 8 where its comment said 4. Trainers that
are given all the numbers either refuse to start, on the machine that is already paid, or quietly take one of them.

## Fails

```yaml gpu=A100-80GB:4
training: {global_batch_size: 250, micro_batch_size: 8, max_steps: 1000, lr: 3.0e-4}
```

```yaml gpu=A100-80GB:2
training: {global_batch_size: 256, micro_batch_size: 8, gradient_accumulation_steps: 8, max_steps: 1000, lr: 3.0e-4}
```

## Passes

```yaml gpu=A100-80GB:4
training: {global_batch_size: 256, micro_batch_size: 8, gradient_accumulation_steps: 8, max_steps: 1000, lr: 3.0e-4}
```

## What to do

Global batch = batch of one device × accumulation × devices. State two of the three and let the third follow. Where
devices share one example (tensor, pipeline or context parallel), it is not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.light import pattern

SEVERITY: Severity = "error"
_SHORT = frozenset({"tp", "pp", "cp"})
_LONG = frozenset({"tensor", "pipeline", "context", "sequence", "model", "expert"})
_WORDS = pattern(r"[._]+")


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        return  # runctl's own configs state the parts only
    if facts.lacks("training.global_batch"):
        return  # nothing that the parts could disagree with
    total = facts.need("training.global_batch")
    written = facts.need("training.batch_written")
    batch, accumulation = written.get("training.batch_size"), written.get("training.accumulation")
    devices = facts.get("compute.world_size") or facts.get("gpu.count")
    parts = [f"{facts.key('training.batch_size')} {batch}"] if batch else []
    if accumulation:
        parts.append(f"{facts.key('training.accumulation')} {accumulation}")
    if devices and devices > 1:
        parts.append(f"{devices} devices")
    step = (batch or 1) * (accumulation or 1) * (devices or 1)
    if shared := next(_shares(facts), None):
        raise NotChecked(f"{shared} lets devices share one example: how many batches there are is not known")
    length = facts.get("declares.seq_len")
    if length and total % length == 0 and total >= step * length:
        raise NotChecked(f"{facts.key('training.global_batch')} may count tokens: it is a multiple of {length}")
    product = " × ".join(parts)
    name = facts.key("training.global_batch")
    if total % step:
        message = f"{name} is {total}, which is no multiple of {product}" + (f" = {step}" if len(parts) > 1 else "")
        fix = f"set {name}: {max(1, round(total / step)) * step}"
        yield Finding(message, at="training.global_batch", fix=fix)
    elif batch and accumulation and devices and total not in (step, step * facts.get("compute.nodes", 1)):
        own = facts.key("training.accumulation")
        if accumulation == 1 and own.rpartition(".")[0] != name.rpartition(".")[0] and facts.dialect == "generic":
            raise NotChecked(f"{own} is of another part of the trainer than {name}, which may set it by itself")
        message = f"{name} is {total}, but {product} make {step}"
        fix = f"set {facts.key('training.accumulation')}: {total // (batch * devices)}, or {name}: {step}"
        severity: Severity | None = "warning" if facts.dialect == "generic" else None
        yield Finding(message, at="training.global_batch", fix=fix, severity=severity)


def _shares(facts: Facts) -> Iterator[str]:
    """Keys by which several devices work on the same examples."""
    for written in facts.get("config.scalars", ()):
        if not isinstance(written.value, int) or written.value < 2:
            continue
        words = set(_WORDS.split(written.key.lower()))
        if words & _SHORT or (words & {"parallel", "parallelism"} and words & _LONG):
            yield written.key
