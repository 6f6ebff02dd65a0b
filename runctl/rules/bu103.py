"""BU103: paid compute without a budget

## Why

Tens of dollars went into runs that nobody had looked at, because nothing said how much was too much. A budget is the
one number that the estimate can be held against.

## Fails

```yaml
data: {max_games: 2000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
```

## Passes

```yaml
data: {max_games: 2000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
budget: {max_cost_usd: 40, max_hours: 10}
```

## What to do

Set `budget.max_cost_usd`, which the estimate is held against and a guard keeps, and `budget.max_hours`. Runs on your
own machine need none.

## Policy

A run likely to cost less than `budget_free` needs no budget; above `budget_required` the lack of one is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_usd

SEVERITY: Severity = "warning"
POLICY = ("budget_free", "budget_required")


def check(facts: Facts) -> Iterable[Finding]:
    for name in ("budget.max_cost_usd", "budget.max_hours"):
        if (facts.get(name) if facts.foreign else facts.need(name)) is not None:
            return
    cost = facts.need("estimate.cost")
    if cost.likely < facts.policy["budget_free"] or not cost.likely:
        return
    severity: Severity = "error" if cost.likely > facts.policy["budget_required"] else "warning"
    message = f"no budget, and the run likely costs {format_usd(cost.likely)}, perhaps {format_usd(cost.high)}"
    at = facts.place("budget.max_cost_usd", "compute.backend", "compute.gpu", "run.steps")
    fix = "set budget.max_cost_usd, and budget.max_hours"
    if facts.foreign:
        fix = "state one in the adapter or with --set budget.max_cost_usd=…"
    yield Finding(message, at=at, fix=fix, severity=severity)
