"""EX104: card and config disagree

## Why

A plan said "15M parameters" of a model that had 10,592,546, and the memory and the time that followed from it were
those of another model. A card that says otherwise than its config was read by people who then agreed to something else.

## Fails

```yaml
name: smoke
data: {simulate: {games: 40, seconds: 20}}
training: {steps: 500, batch_size: 256}
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
<!-- runctl:training -->

| training | |
| --- | --- |
| batch | 1,024 windows |

<!-- /runctl:training -->
```

## Passes

```yaml
name: smoke
data: {simulate: {games: 40, seconds: 20}}
training: {steps: 500, batch_size: 256}
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
<!-- runctl:training -->

| training | |
| --- | --- |
| batch | 256 windows |

<!-- /runctl:training -->
```

## What to do

`runctl card amend NAME --why …` computes the tables anew and writes down what changed and why; who signed has to sign
again. Or set the config back to what was agreed. Once a run by the card has begun, what was agreed stays: draft a card
for the next run. Where only the config's file was moved: `runctl card amend NAME --config PATH --why …`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.facts import Facts, Finding, Severity
from runctl.gathering.carded import Reading
from runctl.units import format_usd

if TYPE_CHECKING:
    from runctl.cards.card import Card

SEVERITY: Severity = "error"
NATIVE = True
_SHOWN = 4


def check(facts: Facts) -> Iterable[Finding]:
    read = facts.need("card.read")
    problems = read.problems
    for one in problems[:_SHOWN]:
        said = f"{one.where()}: {one.message}" if one.line else one.message
        yield Finding(f"the card is not in order: {said}", at="card", fix=one.hint)
    if problems:
        return
    card, named = read.card, read.named
    if card.contract.closed:
        return  # its run is over: EX103 asks for another card
    root = facts.project.root if facts.project is not None else Path()
    if Path(facts.path).exists() and (root / card.contract.config).resolve() != Path(facts.path).resolve():
        fix = f'runctl card amend {card.name} --config {facts.path} --why "it was moved", or a card of its own'
        yield Finding(f"{named} is the card of {card.contract.config}, not of {facts.path}", at="card", fix=fix)
        return
    for message in _wrong(read, facts):
        yield Finding(f"{named} {message}", at="card", fix=_fix(card, root))


def _fix(card: Card, root: Path) -> str:
    """What mends it: once a run by the card has begun, what was agreed stays."""
    from runctl.cards import launched

    if run := launched.begun(card, root):
        new = f"runctl card new {card.contract.config} --name {card.name}-next"
        return f"{new}, since {run} has begun by this card; or set the config back"
    return f"runctl card amend {card.name} --why …, or set the config back"


def _wrong(read: Reading, facts: Facts) -> Iterator[str]:
    from runctl.cards import tables

    card = read.card
    now = tables.blocks(facts, read.known_changes, read.baseline)
    for name in tables.EXACT:
        if name not in card.text.blocks or (name == "changed" and read.known_changes is None):
            continue
        written, meant = tables.rows(card.text.block(name)), tables.rows(now[name])
        wrong = [key for key in written if key in meant and tables.otherwise(written[key], meant[key])]
        for key in wrong[:_SHOWN]:
            yield f"says {key} {written[key]}, and the config {meant[key]}"
    budget, cost = card.contract.budget.usd, facts.get("estimate.cost")
    if budget is not None and cost is not None and cost.likely > budget:
        yield f"allows {format_usd(budget)}, and the run is likely to cost {format_usd(cost.likely)}"
