"""CK109: the best checkpoint is chosen by a metric that nobody computes

## Why

A misspelt metric ends the run at its first validation; where a tool does not look, no checkpoint is ever the best
one, and the weights that were meant to be kept are gone. The loss of training is no better: the best of one batch each
shipped an arbitrary model.

## Fails

```yaml
training: {steps: 100}
checkpoint: {metric: val/acc, mode: max}
```

```yaml
trainer: {max_steps: 3000, batch_size: 8, lr: 0.0003, eval_every: 100}
checkpoint: {save_every: 500, metric: train_loss, keep_best: 1}
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
keep no best checkpoint with `checkpoint.keep_best: 0`. Which metrics another trainer computes is not known; but a
metric of training, or one of a validation that never takes place, is a warning there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runctl.errors import did_you_mean
from runctl.facts import Facts, Finding, Severity
from runctl.light import pattern
from runctl.rules import da108

SEVERITY: Severity = "error"
_TRAINING = pattern(r"(^|[_/.-])(train|training|batch)([_/.-]|$)", re.IGNORECASE)
_HELD_OUT = pattern(r"(^|[_/.-])(val|valid|validation|eval|dev|test)([_/.-]|$)", re.IGNORECASE)


def check(facts: Facts) -> Iterable[Finding]:
    if facts.lacks("checkpoint.metric"):
        return  # no checkpoint is chosen by any
    metric = facts.need("checkpoint.metric")
    if facts.foreign and (_TRAINING.search(metric) or _HELD_OUT.search(metric)):
        yield from _of_another(facts, metric)
        return
    known = facts.need("run.metrics")
    if facts.need("checkpoint.keep_best") and metric not in known:
        fix = did_you_mean(metric, known) or f"set checkpoint.metric to one of: {', '.join(known)}"
        message = f"{facts.says('checkpoint.metric')}, which validation does not compute"
        yield Finding(message, at="checkpoint.metric", fix=fix)


def _of_another(facts: Facts, metric: str) -> Iterable[Finding]:
    if facts.get("checkpoint.keep_best") == 0:
        return
    key = facts.key("checkpoint.metric")
    if _TRAINING.search(metric):
        message = f"{key} is {metric}: the best checkpoint is then chosen by the loss of one batch, which is noise"
    elif da108.lacking(facts):
        message = f"{key} is {metric}, but nothing here validates: no checkpoint can be the best by it"
    else:
        return
    fix = f"validate on held-out data, and set {key} to a metric of that"
    yield Finding(message, at="checkpoint.metric", fix=fix, severity="warning")
