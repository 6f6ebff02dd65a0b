"""EX107: a learning rate that was never tried at this size

## Why

A model of seven times the size ran with the small one's rate, for 7 hours; the sweep that found a rate for it came
afterwards. A rate that suits one size is not known to suit another.

## Fails

```yaml
name: wide
data: {simulate: {games: 4000, seconds: 300}}
model: {d_model: 512, n_layers: 6}
training: {epochs: 4, lr: 3.0e-3}
```
```json beside file=runs/small/run.json
{"config": {"training": {"lr": 3.0e-3}}, "estimate": {"parameters": {"value": 1200000}}}
```

## Passes

```yaml
name: wide
data: {simulate: {games: 4000, seconds: 300}}
model: {d_model: 512, n_layers: 6}
training: {epochs: 4, lr: 3.0e-4}
```
```json beside file=runs/sweep/run.json
{"config": {"training": {"lr": 3.0e-4}}, "estimate": {"parameters": {"value": 10000000}}}
```

## What to do

Run some hundred steps at three rates first (`--set training.lr=…`), and take the one whose loss falls fastest without a
spike. Looked at are the newest runs of the project, with models of a size within the policy's ratio.

## Policy

`like_size`: models whose parameters differ by no more than this factor are of one size. `like_rate`: rates that
differ by no more than this factor are one.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import format_count

SEVERITY: Severity = "note"
NATIVE = True
POLICY = ("like_size", "like_rate")


def check(facts: Facts) -> Iterable[Finding]:
    rate, count = facts.need("training.lr"), facts.need("model.parameters")
    if not facts.need("run.length").long:
        return
    tried = facts.need("history.rates")
    if not tried:
        raise NotChecked("the project has no runs yet")
    size, close = facts.policy["like_size"], facts.policy["like_rate"]
    alike = [one for one in tried if count / size <= one[1] <= count * size]
    if any(rate / close <= one[2] <= rate * close for one in alike):
        return
    rates = sorted({one[2] for one in alike})
    said = f"tried were {', '.join(f'{one:g}' for one in rates)}" if rates else "no run had a model of this size"
    message = f"{facts.says('training.lr')}, which was never tried with about {format_count(count)} parameters: {said}"
    yield Finding(message, at="training.lr", fix="try it for some hundred steps beside a third and three times of it")
