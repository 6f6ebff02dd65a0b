"""DA111: the batch is larger than the training set

## Why

A step cannot read more windows than there are: the batch is cut to the training set, every step sees all of it, and
the learning rate meets another batch size than the one it was chosen for.

## Fails

```yaml
data: {simulate: {games: 4, seconds: 2}}
training: {steps: 100, batch_size: 4096}
```

```yaml
data: {simulate: {games: 4, seconds: 2}}
training: {steps: 100, batch_size: 128, accumulation: 32}
```

## Passes

```yaml
data: {simulate: {games: 4, seconds: 2}}
training: {steps: 100, batch_size: 128}
```

## What to do

Lower `training.batch_size` or `training.accumulation`, or encode more games. The run can start, and its length is
given with the batch that it really has.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import counted

SEVERITY: Severity = "warning"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    asked, windows = facts.need("run.step_asked"), facts.need("data.train_windows")
    if not 0 < windows < asked:
        return  # without any window it is DA102's concern
    batch, parts = facts.get("training.batch_size"), facts.get("training.accumulation", 1)
    sizes = f"training.batch_size is {batch:,}" + (f" and training.accumulation {parts:,}" if parts > 1 else "")
    there = f"there is only {counted(windows, 'training window')}"
    there = there if windows == 1 else there.replace(" is ", " are ")
    at = facts.place(*(["training.accumulation"] if batch <= windows else []), "training.batch_size", "training.steps")
    message = f"{sizes}, but {there}: every step reads all of them"
    yield Finding(message, at=at, fix=f"set batch_size × accumulation to at most {windows:,}, or encode more games")
