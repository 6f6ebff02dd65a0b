"""EX103: the card is not signed, or changed after it was signed

## Why

Between the review of a run and its launch the batch of a shared config went from 1,024 to 4,096. The card still said
1,024, everybody had agreed to that, and a third run went into the wall that the review had found.

## Fails

```yaml
name: smoke
data: {simulate: {games: 40, seconds: 20}}
training: {steps: 500}
card: runcards/smoke.md
```
```markdown beside file=runcards/smoke.md
---
card: 1
goal: see that it trains
question: does the loss fall?
config: example.yaml
targets: [{when: val/loss < 9.0}]
kill: [{when: val/loss > 99.0, do: stop}]
---
```

## Passes

```yaml
name: smoke
data: {simulate: {games: 40, seconds: 20}}
training: {steps: 500}
```

## What to do

`runctl card show NAME` says what changed since. Have it signed: `runctl card sign NAME --as YOU --verdict approve`; a
change on purpose is `runctl card amend NAME --why …` first. A signature is for the card's text, the config and the
dataset.

## Policy

`require_card`: whether a run above `card_cost` or `card_time` is refused without.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.gathering import carded
from runctl.rules.ex102 import needed

SEVERITY: Severity = "warning"
NATIVE = True
POLICY = ("card_cost", "card_time", "require_card")


def check(facts: Facts) -> Iterable[Finding]:
    read = carded.of(facts)
    if read is None or read.problems:
        return  # EX102 asks for a card, EX104 for one that is in order
    card, refusal = read.card, read.refusal
    if refusal is None:
        if since := read.code_since:
            message = f"{facts.get('card')} was signed before the code changed: {since}"
            yield Finding(message, at="card", fix="look at the difference, then sign again or let it stand")
        return
    asked = False
    with suppress(NotChecked):
        asked = bool(needed(facts))
    severity: Severity = "error" if asked and facts.policy["require_card"] else "warning"
    fix = f"runctl card sign {card.name} --as YOU --verdict approve"
    yield Finding(f"{facts.get('card')}: {refusal}", at="card", fix=fix, severity=severity)
