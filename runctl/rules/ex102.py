"""EX102: no run card on a run that costs money

## Why

What a run was for was known to the one who started it, for a week. Months later nobody could say which of 90 runs
had answered what, and three of them were paid for twice.

## Fails

```yaml
data: {simulate: {games: 2000, seconds: 300}}
training: {epochs: 30}
compute: {backend: modal, gpu: A100-80GB, timeout: 12h}
```

## Passes

```yaml
data: {simulate: {games: 40, seconds: 20}}
training: {steps: 500}
compute: {backend: modal, gpu: T4, timeout: 30m}
```

## What to do

`runctl card new CONFIG` drafts one with everything in it that can be computed; say what the run is for, name its
baseline and its targets, and have it signed. With `policy: {require_card: true}` in `runctl.yaml` such a run is refused
without one.

## Policy

`card_cost`: a run likely to cost more needs a card. `card_time`: a paid run likely to take longer needs one.
`require_card`: whether it is refused without.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import format_duration, format_usd

SEVERITY: Severity = "warning"
NATIVE = True
POLICY = ("card_cost", "card_time", "require_card")


def check(facts: Facts) -> Iterable[Finding]:
    why = needed(facts)
    if why and not facts.get("card"):
        severity: Severity = "error" if facts.policy["require_card"] else "warning"
        fix = f"runctl card new {facts.path}, then set card: runcards/NAME.md"
        yield Finding(f"{why}, and no card says what for", at="compute.gpu", fix=fix, severity=severity)


def needed(facts: Facts) -> str:
    """Why the run needs a card by the policy; empty where it needs none. Raises NotChecked where that is unknown."""
    price = facts.get("compute.price")
    if facts.get("compute.backend") == "local" and (price is None or not price.usd):
        return ""
    cost, time = facts.get("estimate.cost"), facts.get("estimate.time")
    if cost is not None and cost.likely > facts.policy["card_cost"]:
        return f"it is likely to cost {format_usd(cost.likely)}"
    if time is not None and time.likely > facts.policy["card_time"]:
        return f"it is likely to take {format_duration(time.likely)}"
    if cost is None:
        raise NotChecked(facts.why("estimate.cost"))
    return ""
