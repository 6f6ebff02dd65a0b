"""EX106: no target, no kill threshold, or one that can never trip

## Why

Whether a run was a success was decided when its numbers were there, and so it was one. And a run whose loss had left
the room in the first hour went on until morning, because nobody had said at which value it should stop.

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
targets: [{when: val/los < 9.0}]
---
```

## Passes

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
targets: [{when: val/loss < 9.0, means: it learns}]
kill: [{when: val/loss > 99.0, do: stop}]
---
```

## What to do

Say before the run at which value it is a success, and at which it is not worth another hour: `targets` and `kill` in
the card. Both are held to: the one is the verdict of `runctl card close`, the other becomes guards of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from runctl.errors import did_you_mean
from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
NATIVE = True
_ALWAYS = ("loss", "train/loss", "examples_per_second", "memory_bytes", "skipped", "oom", "mfu")


def check(facts: Facts) -> Iterable[Finding]:
    card = facts.need("card.read").card
    for message, fix in (*_said(card.contract), *_never(card.contract, facts)):
        yield Finding(f"{facts.get('card')}: {message}", at="card", fix=fix)


def _said(contract: Any) -> Iterator[tuple[str, str]]:
    if not contract.goal.strip() or not contract.question.strip():
        yield "goal or question is empty", "say each in one sentence"
    if not contract.targets:
        yield "no target says what would be a success", 'add targets: [{when: "val/loss < 0.30", means: "…"}]'
    if not contract.kill:
        yield "no kill threshold says when to stop", 'add kill: [{when: "val/loss > 0.40", after: 1 epoch, do: stop}]'


def _never(contract: Any, facts: Facts) -> Iterator[tuple[str, str]]:
    """Targets and thresholds that nothing can meet."""
    from runctl.guards import grammar

    measured, epochs, steps = facts.get("run.metrics"), facts.get("run.epochs"), facts.get("run.steps")
    for kind, given in (("target", contract.targets), ("kill threshold", contract.kill)):
        for one in given:
            read = grammar.condition(one.when)
            metric = read["test"].get("metric")
            if measured and metric and metric not in measured and metric not in _ALWAYS and "train/" not in metric:
                hint = did_you_mean(metric, list(measured)) or f"measured are {', '.join(measured[:6])}"
                yield f"the {kind} '{one.when}' can never trip: nothing measures {metric}", hint
            after = getattr(one, "after", None)
            begins = grammar.moment(after) if after else read["after"] or {}
            late = (epochs and begins.get("epochs", 0) > epochs) or (steps and begins.get("steps", 0) > steps)
            if late:
                yield f"the {kind} '{one.when}' begins after the run's end", "let it begin earlier"
