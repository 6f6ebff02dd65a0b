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
dataset. Who blocks is the only one to lift the block. A closed card is over: the next run needs a card of its own.

## Policy

`require_card`: whether a run above `card_cost` or `card_time` is refused without.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.gathering import carded
from runctl.rules.ex102 import UNJUDGED, needed

SEVERITY: Severity = "warning"
NATIVE = True
POLICY = ("card_cost", "card_time", "require_card")


def check(facts: Facts) -> Iterable[Finding]:
    read = carded.of(facts)
    if read is None or read.problems:
        return  # EX102 asks for a card, EX104 for one that is in order
    refusal = read.refusal
    if refusal is None:
        if since := read.code_since:
            message = f"{facts.get('card')} was signed before the code changed: {since}"
            yield Finding(message, at="card", fix="look at the difference, then sign again or let it stand")
        return
    required, asked, unjudged = facts.policy["require_card"], False, ""
    try:
        asked = bool(needed(facts))
    except NotChecked as error:
        unjudged = f"; {UNJUDGED}: {error}" if required else ""
    severity: Severity = "error" if asked and required else "warning"
    yield Finding(f"{facts.get('card')}: {refusal}{unjudged}", at="card", fix=read.mend, severity=severity)
