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
without one. Where the likely cost or time is unknown, the worst case counts; where that is unknown, too, a warning says
that the policy could not be judged.

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
UNJUDGED = "policy.require_card could not be judged"
POLICY = ("card_cost", "card_time", "require_card")


def check(facts: Facts) -> Iterable[Finding]:
    if facts.get("card"):
        return  # EX103 and EX104 look at it
    fix = f"runctl card new {facts.path}, then set card: runcards/NAME.md"
    try:
        why = needed(facts)
    except NotChecked as error:
        if not facts.policy["require_card"]:
            raise
        fix = f"set compute.timeout, or {fix}"
        yield Finding(f"{UNJUDGED}: {error}", at="compute.gpu", fix=fix, severity="warning")
        return
    if why:
        severity: Severity = "error" if facts.policy["require_card"] else "warning"
        yield Finding(f"{why}, and no card says what for", at="compute.gpu", fix=fix, severity=severity)


def needed(facts: Facts) -> str:
    """Why the run needs a card by the policy; empty where it needs none. Where the likely cost or time is unknown, the
    worst case stands for it. Raises NotChecked where that is unknown, too."""
    price = facts.get("compute.price")
    if facts.get("compute.backend") == "local" and (price is None or not price.usd):
        return ""
    cost, time = facts.get("estimate.cost"), facts.get("estimate.time")
    if cost is not None and cost.likely > facts.policy["card_cost"]:
        return f"it is likely to cost {format_usd(cost.likely)}"
    if time is not None and time.likely > facts.policy["card_time"]:
        return f"it is likely to take {format_duration(time.likely)}"
    if cost is not None and time is not None:
        return ""
    worst = facts.get("estimate.worst_cost")
    if worst is None:
        if cost is not None:
            return ""
        why = facts.why("estimate.cost")
        if why == facts.why("estimate.worst_cost"):
            raise NotChecked(why)
        raise NotChecked(f"the likely cost is unknown ({why}), and so is the worst case")
    if cost is None and worst.usd > facts.policy["card_cost"]:
        return f"its likely cost is unknown, and it may cost {format_usd(worst.usd)} ({worst.words})"
    if time is None and worst.seconds > facts.policy["card_time"]:
        return f"its likely time is unknown, and it may take {format_duration(worst.seconds)} ({worst.words})"
    return ""
