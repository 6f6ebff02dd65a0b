"""BU105: the run does not fit into the project's purse

## Why

Forty runs that each keep to their own budget can spend a month's money in a weekend. The purse of a project counts what
all its runs have cost, and what those that are running will still cost.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 5, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-80GB, cpu: 8, memory: 32GiB, timeout: 24h}
budget: {max_cost_usd: 500}
```

```yaml project
budget: {total_usd: 2}
```

## Passes

```yaml
data: {max_games: 2000}
training: {epochs: 1, batch_size: 4096, precision: bf16}
compute: {backend: modal, gpu: A100-40GB, cpu: 8, memory: 32GiB, timeout: 4h}
budget: {max_cost_usd: 20}
```

```yaml project
budget: {total_usd: 200}
```

## What to do

Make the run shorter or cheaper, end a run that is not needed, or raise `budget.total_usd` in `runctl.yaml`. Nobody can
allow this with a reason: `runctl launch` refuses it with exit code 4. `runctl status` shows what is spent and left.

A run that would cost more than the whole purse is an error everywhere; whether it fits into what is left is judged
where a launch follows. If only the worst case does not fit, that is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import format_usd

SEVERITY: Severity = "error"
LAUNCH = True


def check(facts: Facts) -> Iterable[Finding]:
    purse = facts.need("purse")
    if purse is None:
        return
    at = facts.place("compute.gpu", "compute.backend", "training.epochs", "training.steps")
    price, cost, worst = facts.need("compute.price"), facts.get("estimate.cost"), facts.get("estimate.worst_cost")
    if price.usd and facts.launching and purse.free <= 0:
        message = f"an hour of the run costs {format_usd(price.usd)}, and the project's purse is empty: {purse.words()}"
        yield Finding(message, at=at, fix=purse.hint)
    elif cost is not None and (cost.likely > purse.total or (facts.launching and not purse.holds(cost.likely))):
        yield Finding(purse.overdrawn(cost.likely, "the run"), at=at, fix=purse.hint)
    elif worst is not None and not purse.holds(worst.usd):
        message = f"the worst case costs {format_usd(worst.usd)} ({worst.words}), which the purse does not hold: "
        fix = "set compute.timeout or budget.max_hours so that the worst case fits, or raise budget.total_usd"
        yield Finding(message + purse.words(), at=at, fix=fix, severity="warning")
    elif cost is None and worst is None:
        raise NotChecked(facts.why("estimate.cost"))
