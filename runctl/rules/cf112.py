"""CF112: a setting that this version does not act on

## Why

A limit that nobody watches is worse than none: whoever wrote `max_cost_usd: 10` or a guard sleeps in the belief that
the run will be stopped.

## Fails

```yaml
training: {steps: 100}
budget: {max_cost_usd: 10}
guards: [{when: nan, do: stop}]
card: runcards/first.md
```

## Passes

```yaml
training: {steps: 100}
budget: {max_hours: 3}
```

## What to do

Limit the run by `compute.timeout` and `budget.max_hours`, which are enforced, and look at it while it runs. The
settings may stay in the config: they are kept in the run's record.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "note"
NATIVE = True
NOT_ENFORCED = ("budget.max_cost_usd", "guards", "card")


def check(facts: Facts) -> Iterable[Finding]:
    given = [key for key in NOT_ENFORCED if facts.need(key)]
    if given:
        fix = "limit the run by compute.timeout and budget.max_hours, which are enforced"
        yield Finding(f"not enforced by this version: {', '.join(given)}", at=facts.place(*given), fix=fix)
