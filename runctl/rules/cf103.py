"""CF103: a key given twice

## Why

YAML keeps the last of two equal keys and says nothing, so the value that a reviewer reads first is not the one that
runs. A config changed between review and launch made a signed plan untrue; two values in one file do it
without any change.

## Fails

```yaml
training: {steps: 100, lr: 3.0e-4, lr: 1.0e-3}
```

```yaml
trainer: {max_steps: 500, batch_size: 8}
optim:
  learning_rate: 0.0003
  learning_rate: 0.001
```

## Passes

```yaml
training: {steps: 100, lr: 3.0e-4}
```

## What to do

Keep one of the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Edit, Facts, Finding, Severity
from runctl.rules.cf101 import problems

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        yield from problems(facts, "CF103")
        return
    for one in facts.need("config.duplicates"):
        key = ".".join(map(str, one.path))
        message = f"{key} is given twice; the first is on line {one.first.line}, and only this last one counts"
        edit = Edit(key, at=one.second)
        yield Finding(message, at=one.second, fix="keep one of the two", key=key, edit=edit)
