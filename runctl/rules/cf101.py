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
from difflib import SequenceMatcher

from runctl.errors import Problem
from runctl.facts import Edit, Facts, Finding, Severity
from runctl.light import pattern
from runctl.yamldoc import Position

SEVERITY: Severity = "error"
NATIVE = True
PLAIN = 0.8  # a name that is so near is plainly a slip of the fingers
_KEY = pattern(r"'([^']+)'")
_NEAR = pattern(r"did you mean '([^']+)'\?")


def check(facts: Facts) -> Iterable[Finding]:
    return problems(facts, "CF101")


def _edit(problem: Problem) -> Edit | None:
    """A misspelt key gets its name; one that is given twice with the same value is taken out once."""
    given, hint = _KEY.search(problem.message), problem.hint or ""
    if given is None or problem.line is None or problem.column is None or not problem.file:
        return None
    if problem.rule == "CF103":
        return Edit(given[1], at=Position(problem.file, problem.line, problem.column))
    if problem.rule != "CF101" or not (near := _NEAR.fullmatch(hint)):
        return None
    safe = SequenceMatcher(None, given[1].rpartition(".")[2], near[1]).ratio() >= PLAIN
    return Edit(given[1], rename=near[1], safe=safe)


def problems(facts: Facts, rule: str) -> Iterable[Finding]:
    """The problems that loading the config found and that belong to `rule`, as findings."""
    for problem in facts.need("config.problems"):
        if problem.rule == rule:
            known = problem.file and problem.line is not None and problem.column is not None
            at = Position(problem.file, problem.line, problem.column) if known else None
            yield Finding(problem.message, at=at, fix=problem.hint, edit=_edit(problem))
