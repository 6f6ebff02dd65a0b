"""DA107: far more passes over the data than meant

## Why

18 samples × 300 steps were 267 passes, and "all results unreliable"; "100M samples" were 200 passes over 500,000; a
50,000-step run went 1,230 times over 813 videos. Steps and batch are typed in, the data is whatever there is, and
nobody divides.

## Fails

```yaml
data: {encoded: data/encoded}
training: {steps: 100000, batch_size: 512}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 200000, "games": 25}
```

```yaml
data: {dataset_size: 18}
trainer: {max_steps: 300, batch_size: 16, lr: 0.0003}
```

## Passes

```yaml
data: {encoded: data/encoded}
training: {steps: 2000, batch_size: 512}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 2000000, "games": 250}
```

```yaml
data: {encoded: data/encoded}
training: {epochs: 100, batch_size: 512}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 200000, "games": 25}
```

## What to do

Set the steps that so many passes take, or state the passes: a config that counts in epochs means them, however many.
The examples must have been counted, by a dataset's manifest or by the config (an adapter's `data.samples`); simulated
games are not judged.

## Policy

Steps and batch may amount to `passes` over the data. In a smoke test, of at most `smoke_steps` steps, more is a
warning, and an error from ten times as many. A config that states its epochs besides is held to these: twice or half
as many is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import counted

SEVERITY: Severity = "error"
POLICY = ("passes", "smoke_steps")
BLATANT = 10  # times the policy's passes: no smoke test needs them
_BY_COUNT = ("training.steps", "training.micro_steps", "training.samples", "training.tokens")


def check(facts: Facts) -> Iterable[Finding]:
    said = next((name for name in _BY_COUNT if facts.get(name) is not None), None)
    if said is None:
        if facts.get("training.epochs") is None:
            facts.need("run.steps")
        return  # counted in passes: these are meant
    if facts.get("dataset.simulated", facts.get("data.simulate") is not None):
        return  # as many games as one likes can be had
    examples = _counted(facts)
    steps, each = facts.need("run.steps"), facts.need("run.step_examples")
    if not examples:
        return  # DA102's concern
    passes, most = steps * each / examples, facts.policy["passes"]
    stated = facts.get("training.epochs") if facts.foreign else None
    arithmetic = f"{counted(steps, 'step')} × {each:,} ÷ {counted(examples, 'example')}"
    fix = f"set {facts.key(said)} for {counted(most, 'pass').replace('passs', 'passes')} at most, or state the passes"
    smoke = steps <= facts.policy["smoke_steps"]
    severity: Severity = "warning" if smoke and passes <= BLATANT * most else "error"
    if stated and not stated / 2 <= passes <= stated * 2:
        message = f"{facts.key('training.epochs')} is {stated:g}, but it comes to {_shown(passes)} passes: {arithmetic}"
        fix = f"keep one of {facts.key('training.epochs')} and {facts.key(said)}"
        severity = "warning" if smoke else "error"
    elif passes > most and not stated:
        message = f"{_shown(passes)} passes over the data: {arithmetic}"
    else:
        return
    yield Finding(message, at=facts.place(said, "run.steps", "training.batch_size"), fix=fix, severity=severity)


def _counted(facts: Facts) -> int:
    """Examples that somebody counted. Raises NotChecked."""
    if facts.foreign:
        return int(facts.need("data.samples"))
    windows = facts.need("data.train_windows")
    source = facts.source("data.train_windows")
    if source is None or source.kind != "manifest":
        raise NotChecked("the training windows were not counted")
    return int(windows)


def _shown(passes: float) -> str:
    return f"{passes:,.0f}" if passes >= 10 else f"{passes:.2g}"
