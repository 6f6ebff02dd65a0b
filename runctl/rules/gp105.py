"""GP105: a backend that cannot launch

## Why

Preflight and launch must agree: a config that was checked in the afternoon and is refused at its launch in the
evening has lost the night.

## Fails

```yaml
training: {steps: 100}
compute: {backend: locl}
```

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: local}
```

## What to do

Set `compute.backend` to one that this version launches on. A backend whose name is known but that cannot launch yet
is a warning, because its configs can be checked and estimated; a launch refuses both.
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
        severity: Severity | None = "warning" if facts.need("backend.known") and not facts.launching else None
        yield Finding(f"compute.backend: {message}", at="compute.backend", fix=hint, severity=severity)
