"""CF107: not a whole config

## Why

A fragment that other files build on, or a file that only a tuner writes, has no length and no batch of its own: run by
mistake it trains with whatever the trainer's defaults are. A toy config run for 50,000 steps by an override cost 24
hours on two GPUs.

## Fails

```yaml
model: {dim: 1024, n_heads: 16}
train: {lr: 0.0003, warmup_steps: 50}
```

## Passes

```yaml
model: {dim: 1024, n_heads: 16}
train: {lr: 0.0003, warmup_steps: 50, batch_size: 32, max_steps: 20000}
```

## What to do

Add what is missing, or check the file together with the one it builds on: `--with base.yaml`. For a file that is
meant to be a fragment this is only a note; a launch of it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "note"
LAUNCH = True


def check(facts: Facts) -> Iterable[Finding]:
    if facts.need("config.kind") != "incomplete":
        return
    missing = " or ".join(facts.get("config.missing", ()))
    position = next(iter(facts.need("config.keys").values()), None)
    fix = "add it, or check the file with the one it builds on: --with BASE"
    severity: Severity = "error" if facts.launching else "note"
    message = f"this is no whole config: it does not say {missing}"
    yield Finding(message, at=position, fix=fix, severity=severity, key="")
