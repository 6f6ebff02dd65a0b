"""BU102: the worst case costs more than the budget

## Why

A run was marked as cancelled while its container went on, and was billed up to its limit of 24 hours. What can be paid
at most is what the limits allow, not what was estimated: timeout × attempts × price.

## Fails

```yaml
data: {max_games: 100}
training: {epochs: 1, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h, retries: 3}
budget: {max_cost_usd: 50}
```

## Passes

```yaml
data: {max_games: 100}
training: {epochs: 1, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 3h, retries: 1}
budget: {max_cost_usd: 50}
```

## What to do

Lower `compute.timeout` or `compute.retries`, or set `budget.max_hours`: these are enforced. `budget.max_cost_usd`
ends a run as a guard, at the price that was known at the launch, and counts what the supervisor has seen: no container
that is starting, none that goes on after it.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_usd

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    budget = facts.need("budget.max_cost_usd")
    if budget is None:
        return
    price = facts.need("compute.price")
    if not price.usd:
        return
    worst = facts.get("estimate.worst_cost")
    given = f"{facts.key('budget.max_cost_usd')} is {format_usd(budget)}"
    hours = budget / (price.usd * (1 + price.allowance))
    fix = f"set budget.max_hours: {hours:.2g} (it bounds all attempts), or lower compute.timeout or compute.retries"
    if facts.foreign:
        fix = f"lower {facts.key('compute.timeout')}, or end it after {hours:.2g} h"
    if worst is None:
        why = facts.why("estimate.worst_cost")
        yield Finding(f"{given}, and only its guard keeps to it: {why}", at="budget.max_cost_usd", fix=fix)
    elif worst.usd > budget:
        message = f"{given}, but the worst case is {format_usd(worst.usd)}: {worst.words}"
        yield Finding(message, at="budget.max_cost_usd", fix=fix)
