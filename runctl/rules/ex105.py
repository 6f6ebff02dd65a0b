"""EX105: the same run twice

## Why

One arm of a learning-rate sweep was the baseline under another name: it was paid for twice, and the difference between
the two was read as an effect. A copy whose factor nobody changed gives the same two rows.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8, run_name: baseline}
optim: {learning_rate: 0.001, weight_decay: 0.1}
```
```yaml beside file=lr1.yaml
trainer: {max_steps: 500, batch_size: 8, run_name: lr1}
optim: {learning_rate: 0.001, weight_decay: 0.1}
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8, run_name: baseline}
optim: {learning_rate: 0.001, weight_decay: 0.1}
```
```yaml beside file=lr2.yaml
trainer: {max_steps: 500, batch_size: 8, run_name: lr2}
optim: {learning_rate: 0.003, weight_decay: 0.1}
```

## What to do

Change the factor that the copy was made for, or run it once. Two runs that are to show the spread between seeds
differ in their seed. Configs of one call are compared, without their names and output folders.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.gathering import siblings

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    facts.need("siblings.paths")
    others = facts.get("siblings.duplicates")
    if others:
        named = ", ".join(siblings.relative(other, facts.path) for other in others)
        at = next(iter(facts.need("config.keys").values()), None)
        message = f"the same run as {named}: they differ in names and output folders only"
        fix = "change the factor that this copy was made for, or run it once"
        yield Finding(message, at=at, fix=fix, key="")
