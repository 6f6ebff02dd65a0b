"""PO103: beyond a limit of the project

## Why

A team's money and GPUs are shared, and a config says only what one person wants. A limit that stands in `runctl.yaml`
is read by every launch and every pull request; one that was said in a meeting is not.

## Fails

```yaml
data: {simulate: {games: 48, seconds: 30, seed: 1}}
training: {steps: 200, precision: bf16, seed: 1}
compute: {backend: modal, gpu: "A100-80GB:8", timeout: 1h}
budget: {max_cost_usd: 500}
```

```yaml project
policy: {max_gpus: 2, max_cost_usd: 100}
```

## Passes

```yaml
data: {simulate: {games: 48, seconds: 30, seed: 1}}
training: {steps: 200, precision: bf16, seed: 1}
compute: {backend: modal, gpu: A100-80GB, timeout: 1h}
budget: {max_cost_usd: 50}
```

```yaml project
policy: {max_gpus: 2, max_cost_usd: 100}
```

## What to do

Ask for less, or raise the limit in `runctl.yaml` in a change that the team can see. A single run is let through with
`# runctl: allow PO103 reason`.

## Policy

`max_cost_usd` and `max_hours` are compared with the likely estimate and with what the config's own budget would let
pass, `max_gpus` with the GPUs that it asks for. Without a value there is no limit.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import format_duration, format_usd

SEVERITY: Severity = "error"
POLICY = ("max_cost_usd", "max_hours", "max_gpus")


def check(facts: Facts) -> Iterable[Finding]:
    policy = facts.policy
    found: list[Finding] = []
    unknown: list[str] = []
    for limited in (_cost, _hours, _gpus):
        try:
            found += limited(facts)
        except NotChecked as why:
            unknown.append(str(why))
    if unknown and not found and any(policy[name] is not None for name in POLICY):
        raise NotChecked(unknown[0])
    return found


def _cost(facts: Facts) -> Iterable[Finding]:
    limit = facts.policy["max_cost_usd"]
    if limit is None:
        return
    budget = facts.get("budget.max_cost_usd")
    if budget is not None and budget > limit:
        key = facts.key("budget.max_cost_usd")
        message = f"{key} is {format_usd(budget)}; the project lets a run cost {format_usd(limit)}"
        yield Finding(message, at="budget.max_cost_usd", fix=f"set {key}: {limit:g} or less")
    likely = facts.need("estimate.cost").likely
    if likely > limit:
        message = f"the run is likely to cost {format_usd(likely)}; the project lets a run cost {format_usd(limit)}"
        at = facts.place("compute.gpu", "training.steps", "training.epochs")
        yield Finding(message, at=at, fix="train for less, on less, or raise max_cost_usd in runctl.yaml")


def _hours(facts: Facts) -> Iterable[Finding]:
    limit = facts.policy["max_hours"]
    if limit is None:
        return
    likely = facts.need("estimate.time").likely
    if likely > limit * 3600:
        message = f"the run is likely to take {format_duration(likely)}; the project lets a run take {limit:g} h"
        at = facts.place("training.steps", "training.epochs", "compute.gpu")
        yield Finding(message, at=at, fix="train for less, or raise max_hours in runctl.yaml")


def _gpus(facts: Facts) -> Iterable[Finding]:
    limit = facts.policy["max_gpus"]
    if limit is None or not facts.need("gpu.used"):
        return
    count = facts.need("gpu.count")
    if count > limit:
        message = f"{facts.key('compute.gpu')} asks for {count} GPUs; the project lets a run have {limit}"
        yield Finding(message, at="compute.gpu", fix=f"ask for {limit} or fewer")
