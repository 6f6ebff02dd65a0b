"""CF110: no seed

## Why

Without a seed no run can be repeated, and two runs differ by chance in their first batch already: differences of
0.002 to 0.01 were ranked from single runs whose own spread was as large. A seed costs one line.

## Fails

```yaml
trainer: {max_steps: 50000, batch_size: 8, save_every: 1000}
optim: {learning_rate: 0.001}
```

## Passes

```yaml
trainer: {max_steps: 50000, batch_size: 8, save_every: 1000, seed: 1}
optim: {learning_rate: 0.001}
```

```yaml
training: {steps: 50000}
```

## What to do

Write a seed. For a short run its absence is only a note. runctl's own trainer uses 0 where none is written, so that
its runs are repeatable in any case.

## Policy

A run is long if it is estimated to take more than `long_run`, or has more than `long_run_steps` optimizer steps where
its time is not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
POLICY = ("long_run", "long_run_steps")


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign or facts.get("config.kind") != "training" or "training.seed" in facts.values:
        source = facts.source("training.seed")
        if not facts.foreign or source is None or facts.get("training.seed") is not None:
            return
    if any("seed" in one.key.rpartition(".")[2].lower() and one.text for one in facts.need("config.scalars")):
        return
    at = facts.place("training.steps", "training.micro_steps", "training.samples", "training.epochs",
                     "training.tokens", "training.batch_size")  # fmt: skip
    length = facts.get("run.length")
    long = bool(length and length.long) or (facts.get("training.time_limit") or 0) > facts.policy["long_run"]
    severity: Severity = "warning" if long else "note"
    message = "no seed is written: the run cannot be repeated"
    yield Finding(message, at=at, fix="write a seed", severity=severity, key="seed")
