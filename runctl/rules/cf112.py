"""CF112: a setting that this version does not act on

## Why

A contract that nobody reads is worse than none: whoever names a run card believes that somebody signs it before money
is spent.

## Fails

```yaml
training: {steps: 100}
card: runcards/first.md
```

## Passes

```yaml
training: {steps: 100}
budget: {max_hours: 3, max_cost_usd: 10}
guards: [{when: nan, do: stop}]
```

## What to do

Limit the run by guards and a budget, which are enforced (`runctl guards CONFIG` lists them). The setting may stay in
the config: it is kept in the run's record.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "note"
NATIVE = True
NOT_ENFORCED = ("card",)


def check(facts: Facts) -> Iterable[Finding]:
    given = [key for key in NOT_ENFORCED if facts.need(key)]
    if given:
        fix = "limit the run by guards and a budget, which are enforced"
        yield Finding(f"not enforced by this version: {', '.join(given)}", at=facts.place(*given), fix=fix)
