"""GP105: a backend that runctl does not have

## Why

Preflight and launch must agree: a config that was checked in the afternoon and is refused at its launch in the
evening has lost the night.

## Fails

```yaml
training: {steps: 100}
compute: {backend: locl}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: local}
```

## What to do

Set `compute.backend` to one that runctl launches on. What a backend needs besides (a package, a token) is told by the
launch.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True
LAUNCH = True


def check(facts: Facts) -> Iterable[Finding]:
    facts.need("compute.backend")
    if (problem := facts.get("backend.problem")) is not None:
        message, hint = problem
        yield Finding(f"compute.backend: {message}", at="compute.backend", fix=hint)
