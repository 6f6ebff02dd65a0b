"""CK109: the best checkpoint is chosen by a metric that nobody computes

## Why

A misspelt metric ends the run at its first validation; where a tool does not look, no checkpoint is ever the best
one, and the weights that were meant to be kept are gone.

## Fails

```yaml
training: {steps: 100}
checkpoint: {metric: val/acc, mode: max}
```

## Passes

```yaml
training: {steps: 100}
checkpoint: {metric: val/change_acc, mode: max}
```

```yaml
training: {steps: 100}
checkpoint: {keep_best: 0, metric: none}
```

## What to do

Take a name that the validation gives, `val/loss`, `val/change_acc`, `val/action_acc` or `val/pos_mae` among them, or
keep no best checkpoint with `checkpoint.keep_best: 0`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.errors import did_you_mean
from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    metric, known = facts.need("checkpoint.metric"), facts.need("run.metrics")
    if facts.need("checkpoint.keep_best") and metric not in known:
        fix = did_you_mean(metric, known) or f"set checkpoint.metric to one of: {', '.join(known)}"
        message = f"{facts.says('checkpoint.metric')}, which validation does not compute"
        yield Finding(message, at="checkpoint.metric", fix=fix)
