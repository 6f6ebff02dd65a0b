"""EN103: nobody will see how the run goes

## Why

A tracker failed to start and the run was detached: it went on with no eyes on it. Another hung before its first line
while the curves of yesterday's run looked alive, and an evening passed.

## Fails

```yaml launch detached
data: {simulate: {games: 2000}}
training: {steps: 200000, batch_size: 64}
compute: {gpu: A100-80GB}
```

## Passes

```yaml launch detached
data: {simulate: {games: 2000}}
training: {steps: 200000, batch_size: 64}
compute: {gpu: A100-80GB}
tracking: {wandb: online}
```

```yaml launch detached
training: {steps: 100}
```

## What to do

Name a service that is told how runs end (`notices:` in `runctl.yaml`), or set `tracking.wandb: online`, or a guard that
notifies (`guards: [{when: nan, do: notify}]`), or follow the run (`runctl logs -f`, `runctl status`). It is known at a
launch only, and short runs may well be left alone. A service whose address is not set at the launch tells nobody.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("run.detached") or facts.get("tracking.wandb") == "online":
        return
    if any(guard.do == "notify" for guard in facts.get("guards") or ()):
        return
    if facts.project is not None and any(one.address and "failed" in one.on for one in facts.project.notices):
        return
    length = facts.need("run.length")
    if length.long:
        message = f"the run ({length.why}) is left alone, and nothing tells anybody how it goes"
        fix = "name who is told (notices: in runctl.yaml), set tracking.wandb: online, or follow it: runctl logs -f"
        yield Finding(message, at=facts.place("tracking.wandb", "training.steps", "training.epochs"), fix=fix)
