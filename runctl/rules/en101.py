"""EN101: work that is on this machine alone

## Why

Five commits that were never pushed and 812 lines that were never committed lay on a rented machine when its lease
ended. A run whose code is nowhere else cannot be explained later, and not repeated.

## Fails

```yaml launch repository uncommitted
training: {steps: 100}
```

## Passes

```yaml launch repository
training: {steps: 100}
```

## What to do

Commit, and push where there is a remote. It is looked at where a launch follows and with `--online`; the difference to
the last commit is kept with the run in any case (`code.diff`). A team that wants it to block sets
`policy: {rules: {EN101: error}}`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.code_version import State
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.gathering.surroundings import LATER
from runctl.units import counted
from runctl.yamldoc import Position

SEVERITY: Severity = "warning"
NATIVE = True
LAUNCH = True
SHOWN = 3


def check(facts: Facts) -> Iterable[Finding]:
    if not (facts.launching or facts.get("check.online")):
        raise NotChecked(facts.otherwise or LATER)
    state: State = facts.need("code.state")
    words, steps = [], []
    if state.changed:
        names = ", ".join(state.changed[:SHOWN]) + (", …" if len(state.changed) > SHOWN else "")
        words.append(f"{counted(len(state.changed), 'file')} not committed ({names})")
        steps.append("git commit")
    if state.unpushed:
        words.append(f"{counted(state.unpushed, 'commit')} not pushed")
    if state.unpushed or (state.changed and state.unpushed is not None):
        steps.append("git push")
    if words:
        message = f"the code of this run is on this machine alone: {' and '.join(words)}"
        yield Finding(message, at=Position(facts.path, 1, 1), fix=", ".join(steps), key="")
