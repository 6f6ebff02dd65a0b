"""OP103: the batch changed against the baseline

## Why

A batch of 1,024 became 4,096 in a shared config between the review and the launch, at the same learning rate. Whoever
compares the two runs compares batches, rates and numbers of steps at once.

## Fails

```yaml file=wide.yaml
training: {steps: 1000, batch_size: 4096, lr: 3.0e-4}
```

```yaml beside file=baseline.yaml
training: {steps: 4000, batch_size: 1024, lr: 3.0e-4}
```

## Passes

```yaml file=slow.yaml
training: {steps: 4000, batch_size: 1024, lr: 1.0e-4}
```

```yaml beside file=baseline.yaml
training: {steps: 4000, batch_size: 1024, lr: 3.0e-4}
```

## What to do

Keep the examples of one optimizer step where another thing is under test: `training.accumulation` makes up for a
smaller batch. Where the batch itself is the question, say how the rate follows: by the square root of the change for
Adam, in proportion for SGD. It is a note, and needs something to compare with: the config in the folder with
`baseline` in its name, or with `--base REF` the config as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "note"
SAME = 0.01  # shares of a change below this are none


def check(facts: Facts) -> Iterable[Finding]:
    name = facts.need("baseline.name")
    own, base = facts.need("run.step_examples"), facts.need("baseline.run.step_examples")
    lr, base_lr = facts.need("training.lr"), facts.need("baseline.training.lr")
    change = own / base
    if abs(change - 1) < SAME or not base_lr:
        return
    message = f"a step has {own:,} examples, in {name} {base:,}: × {change:.3g}"
    if abs(lr / base_lr - 1) < SAME:
        message += f" at the same rate of {lr:g}"
        near = base_lr * math.sqrt(change)
        fix = f"set {facts.key('training.lr')}: {near:.2g} (Adam) to {base_lr * change:.2g} (SGD), or keep the batch"
    else:
        message += f", and the rate × {lr / base_lr:.3g}: two changes in one run"
        fix = "change one of them, or compare with a run that has the same batch"
    at = facts.place("training.batch_size", "training.global_batch", "training.accumulation", "training.lr")
    yield Finding(message, at=at, fix=fix)
