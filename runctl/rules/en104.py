"""EN104: the environment is not pinned

## Why

A file said that a kernel library was needed; the version that came with it did not work with the compiler that the
project had pinned elsewhere, and the run fell back to a slow path in silence. What is installed tomorrow is not what
was installed today, unless a file says so.

## Fails

```yaml
data: {simulate: {games: 2000}}
training: {steps: 200000, batch_size: 64}
compute: {gpu: A100-80GB}
```

```yaml project
policy: {}
```

## Passes

```yaml
data: {simulate: {games: 2000}}
training: {steps: 200000, batch_size: 64}
compute: {gpu: A100-80GB}
```

```yaml project
policy: {}
```

```text beside file=requirements.txt
torch==2.13.0
```

## What to do

Commit a lock file (`uv lock`, `poetry lock`, `conda-lock`), or a requirements file in which most packages have an
exact version (`pip freeze > requirements.txt`). The versions that a run really had are in its record in any case.
Short runs are not looked at, nor folders without a `runctl.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.yamldoc import Position

SEVERITY: Severity = "note"


def check(facts: Facts) -> Iterable[Finding]:
    pinned, length = facts.need("environment.pins"), facts.need("run.length")
    if pinned is None and length.long:
        message = "no file of the project says which versions of its packages the run needs"
        fix = "commit a lock file or a requirements.txt with exact versions"
        yield Finding(message, at=Position(facts.path, 1, 1), fix=fix, key="")
