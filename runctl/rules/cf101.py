"""CF101: an unknown key

## Why

A key that nobody reads changes nothing: a misspelt factor made an ablation a copy of its baseline, 1.7 hours of GPU
and a wrong conclusion, and a lenient parser swallowed `--config` for whole launches.

## Fails

```yaml
training: {batch_sise: 256, steps: 100}
```

## Passes

```yaml
training: {batch_size: 256, steps: 100}
```

## What to do

Correct the key as the hint says, or delete it. `runctl config show CONFIG` prints every key that is read.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.yamldoc import Position

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    return problems(facts, "CF101")


def problems(facts: Facts, rule: str) -> Iterable[Finding]:
    """The problems that loading the config found and that belong to `rule`, as findings."""
    for problem in facts.need("config.problems"):
        if problem.rule == rule:
            known = problem.file and problem.line is not None and problem.column is not None
            at = Position(problem.file, problem.line, problem.column) if known else None
            yield Finding(problem.message, at=at, fix=problem.hint)
