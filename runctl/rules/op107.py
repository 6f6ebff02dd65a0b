"""OP107: a part is frozen by a learning rate of 0

## Why

An ablation set the rate of its image encoder to 0 and promised a third of the memory. With a rate of 0 the weights do
not move, but their gradients are computed, kept and averaged and their optimizer state is allocated: all of the cost,
and weight decay may still change them.

## Fails

```yaml
training: {max_steps: 1000, batch_size: 8, lr_head: 1.0e-4, lr_encoder: 0.0}
```

## Passes

```yaml
training: {max_steps: 1000, batch_size: 8, lr_head: 1.0e-4, min_lr: 0.0, freeze_encoder: true}
```

## What to do

Freeze the weights themselves (`requires_grad_(False)`; many trainers have a `freeze_…` key) and leave them out of the
optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import lr_groups
from runctl.yamldoc import Position

SEVERITY: Severity = "warning"
COST = "its gradients and optimizer state are still computed and kept"


def check(facts: Facts) -> Iterable[Finding]:
    found: dict[str, str | Position | None] = {
        key: written.position for key, rate, written in lr_groups.of(facts) if rate == 0
    }
    if facts.get("training.frozen_by_lr") == 0:
        found.setdefault(facts.key("training.frozen_by_lr"), "training.frozen_by_lr")
    for key, at in found.items():
        part = key.rpartition(".")[2].replace("learning_rate", "").replace("lr", "").strip("_-") or "it"
        fix = f"freeze {part} itself (freeze_{part}: true where there is such a key)"
        yield Finding(f"{key} is 0: {COST}", at=at, fix=fix)
