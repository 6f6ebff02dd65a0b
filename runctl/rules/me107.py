"""ME107: a batch that may be of one GPU or of all

## Why

A config for two GPUs said `batch_size: 2` and its comment "effective 4"; the trainer took 2 for each rank, which made
8 with the accumulation, and a schedule and a rate that belonged to another batch. Memory and time are off by the
number of GPUs as well.

## Fails

```yaml gpu=A100-80GB:4
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, precision: bf16}
```

## Passes

```yaml gpu=A100-80GB:4
trainer: {max_steps: 5000, device_batch_size: 8, lr: 0.0003, precision: bf16}
```

```yaml gpu=A100-80GB
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, precision: bf16}
```

## What to do

Say which it is in the key (`per_device_batch_size`, `global_batch_size`), or declare an adapter for this trainer:
what it maps to `training.batch_size` is of one device, what it maps to `training.global_batch` of all. Until then
estimates take it for that of one device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.light import pattern

SEVERITY: Severity = "warning"
_CLEAR = pattern(r"device|gpu|micro|local|rank|replica|core|global|total|effective|world", re.IGNORECASE)


def check(facts: Facts) -> Iterable[Finding]:
    if facts.dialect != "generic":
        return  # an adapter says what it is, and so does runctl
    batch = facts.need("training.batch_size")
    devices = facts.get("compute.world_size") or facts.need("gpu.count")
    key = facts.key("training.batch_size")
    if devices < 2 or facts.get("training.global_batch") is not None or _CLEAR.search(key):
        return
    message = (
        f"{key} is {batch:,}: with {devices} GPUs that is {batch:,} or {batch * devices:,} examples in a forward pass"
    )
    fix = "say which in the key (per_device_…, global_…), or declare an adapter for this trainer (runctl adapt)"
    yield Finding(message, at=facts.place("training.batch_size", "run.steps"), fix=fix)
