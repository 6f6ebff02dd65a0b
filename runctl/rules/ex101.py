"""EX101: more than one thing changed against the baseline

## Why

A run changed the encoding, the size of the model and the data in one go. Its metric moved, and nobody could say why:
the run was paid for, and the question was as open as before.

## Fails

```yaml
name: wider
data: {simulate: {games: 40, seconds: 20}}
model: {d_model: 128}
training: {steps: 500, lr: 1.0e-3}
card: runcards/wider.md
```
```markdown beside file=runcards/wider.md
---
card: 1
goal: find out whether width helps
question: is val/loss lower at twice the width?
config: example.yaml
baseline: [narrow]
changes: [model.d_model]
targets: [{when: val/loss < 2.0}]
kill: [{when: val/loss > 9.0, do: stop}]
---
```
```json beside file=runs/narrow/run.json
{"config": {"name": "narrow", "data": {"simulate": {"games": 40, "seconds": 20}},
            "model": {"d_model": 64}, "training": {"steps": 500, "lr": 3.0e-4}}}
```

## Passes

```yaml
name: wider
data: {simulate: {games: 40, seconds: 20}}
model: {d_model: 128}
training: {steps: 500, lr: 3.0e-4}
card: runcards/wider.md
```
```markdown beside file=runcards/wider.md
---
card: 1
goal: find out whether width helps
question: is val/loss lower at twice the width?
config: example.yaml
baseline: [narrow]
changes: [model.d_model]
targets: [{when: val/loss < 2.0}]
kill: [{when: val/loss > 9.0, do: stop}]
---
```
```json beside file=runs/narrow/run.json
{"config": {"name": "narrow", "data": {"simulate": {"games": 40, "seconds": 20}},
            "model": {"d_model": 64}, "training": {"steps": 500, "lr": 3.0e-4}}}
```

## What to do

Change one thing, or run the steps between. Where several keys are one change (a rate that goes with a batch), name all
of them under `changes` in the card: who signs then agrees to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
NATIVE = True
_SHOWN = 6


def check(facts: Facts) -> Iterable[Finding]:
    card, changes = facts.need("card.read").card, facts.need("card.read").changes
    meant = set(card.contract.changes or ())
    other = [change for change in changes if change[0] not in meant]
    if not other or len(changes) < 2:
        return
    from runctl.cards import tables

    said = [f"{key} {tables.value(old)} → {tables.value(new)}" for key, old, new in changes[:_SHOWN]]
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    baseline = card.contract.baseline[0]
    message = f"{len(changes)} keys differ from the baseline {baseline}: {'; '.join(said)}{more}"
    named = ", ".join(key for key, _, _ in other[:_SHOWN])
    fix = f"change one thing at a time, or agree to it: add to `changes` in the card: {named}"
    yield Finding(message, at=facts.place(*(key for key, _, _ in other), "card"), fix=fix)
