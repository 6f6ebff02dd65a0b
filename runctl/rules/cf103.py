"""CF103: a key given twice

## Why

YAML keeps the last of two equal keys and says nothing, so the value that a reviewer reads first is not the one that
runs. A config changed between review and launch made a signed plan untrue; two values in one file do it
without any change.

## Fails

```yaml
training: {steps: 100, lr: 3.0e-4, lr: 1.0e-3}
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

from runctl.facts import Facts, Finding, Severity
from runctl.rules.cf101 import problems

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    return problems(facts, "CF103")
