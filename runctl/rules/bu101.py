"""BU101: it likely costs more than the budget

## Why

"15 hours, $21" became 30 hours. The price of an hour times the likely hours is known before the first cent is spent.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 5, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
budget: {max_cost_usd: 2}
```

## Passes

```yaml
data: {max_games: 2000}
training: {epochs: 1, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-40GB, cpu: 8, memory: 32GiB, timeout: 4h}
budget: {max_cost_usd: 20}
```

## What to do

Shorten the run, take a cheaper GPU (`runctl gpus`), or raise `budget.max_cost_usd`. Prices of your own contract belong
into `prices:` of `runctl.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_usd

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    budget = facts.need("budget.max_cost_usd")
    if budget is None:
        return
    cost = facts.need("estimate.cost")
    if cost.likely > budget:
        low, likely, high = (format_usd(value) for value in (cost.low, cost.likely, cost.high))
        key = facts.key("budget.max_cost_usd")
        message = f"{key} is {format_usd(budget)}, but the run likely costs {likely} ({low} to {high})"
        fix = f"shorten the run, take a cheaper GPU, or raise {key}"
        yield Finding(message, at="budget.max_cost_usd", fix=fix)
