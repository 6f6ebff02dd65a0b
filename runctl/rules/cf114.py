"""CF114: a copy that was left lying

## Why

A tuner had written `base.yaml.updated` beside `base.yaml`, and the two contradicted each other in the thresholds that
decide which kernel runs: who read the one believed it was the other. Old copies are launched by mistake, and quoted in
reports.

## Fails

```yaml file=base.yaml
trainer: {max_steps: 500, batch_size: 8}
kernel: {min_length: 512}
```
```yaml beside file=base.yaml.bak
trainer: {max_steps: 500, batch_size: 8}
kernel: {min_length: 32}
```

## Passes

```yaml file=base.yaml
trainer: {max_steps: 500, batch_size: 8}
kernel: {min_length: 512}
```
```yaml beside file=long.yaml
trainer: {max_steps: 500, batch_size: 8}
kernel: {min_length: 32}
```

## What to do

Take the copy over or delete it: git keeps the old state. A copy that says the same is a note.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.gathering import siblings
from runctl.gathering.secrets import masked

SEVERITY: Severity = "warning"
SHOWN = 3


def check(facts: Facts) -> Iterable[Finding]:
    copy = facts.get("siblings.copy")
    keys = facts.need("config.keys")
    if copy is None or not keys:
        return
    other = siblings.relative(copy.path, facts.path)
    at = next(iter(keys.values()))
    fix = "take over what is right in it and delete the copy"
    if copy.keys:
        listed = ", ".join(masked(f"{key}: {mine} here, {theirs} there") for key, mine, theirs in copy.keys[:SHOWN])
        more = f" and {len(copy.keys) - SHOWN} more" if len(copy.keys) > SHOWN else ""
        by_name = {".".join(map(str, path)): position for path, position in keys.items()}
        at = next((by_name[key] for key, _, _ in copy.keys if key in by_name), at)
        words = f"{other} beside this config contradicts it" if copy.left else f"this copy contradicts {other}"
        yield Finding(f"{words} ({listed}{more})", at=at, fix=fix)
    elif copy.keys is None and not copy.left:
        yield Finding(f"by its name this is a copy of {other} that was left lying", at=at, fix=fix)
    else:
        words = f"{other} says the same as this config" if copy.left else f"this says the same as {other}"
        yield Finding(words, at=at, fix="delete the copy", severity="note")
