"""CF113: members of a sweep that differ in more than their factor

## Why

A sweep answers one question if its members differ in one thing. Three members of a four-arm sweep ran with other
loader settings than the fourth, which nobody had noticed; three variables changed at once made another result
ambiguous.

## Fails

```yaml file=frames_4.yaml
trainer: {max_steps: 500, batch_size: 8, frames: 4}
data: {num_workers: 2}
```
```yaml beside file=frames_8.yaml
trainer: {max_steps: 500, batch_size: 8, frames: 8}
data: {num_workers: 8}
```
```yaml beside file=frames_16.yaml
trainer: {max_steps: 500, batch_size: 8, frames: 16}
data: {num_workers: 8}
```

## Passes

```yaml file=frames_4.yaml
trainer: {max_steps: 500, batch_size: 8, frames: 4}
data: {num_workers: 8}
```
```yaml beside file=frames_8.yaml
trainer: {max_steps: 500, batch_size: 8, frames: 8}
data: {num_workers: 8}
```
```yaml beside file=frames_16.yaml
trainer: {max_steps: 500, batch_size: 8, frames: 16}
data: {num_workers: 8}
```

## What to do

Give all members the same value. Files are members of one sweep where their names differ in one number, and that number
is the value of a key in each of them; keys that vary together with it are taken to belong to it. In a sweep of five or
more, members that agree with most others get a note only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
SHOWN = 5


def check(facts: Facts) -> Iterable[Finding]:
    facts.need("siblings.paths")
    found = facts.get("siblings.sweep")
    if not found:
        return
    keys = {".".join(map(str, path)): position for path, position in facts.need("config.keys").items()}
    listed = []
    for one in found[:SHOWN]:
        others = ", ".join(f"{_shown(value)} in {os.path.basename(path)}" for value, path in one.others)
        listed.append(f"{one.key} ({_shown(one.mine)} here; {others})")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    at = next((keys[one.key] for one in found if one.key in keys), keys.get(found[0].factor))
    message = f"members of this sweep over {found[0].factor} differ in more: {', '.join(listed)}{more}"
    severity: Severity = "warning" if any(one.odd for one in found) else "note"
    yield Finding(message, at=at, fix="give all members the same value", severity=severity)


def _shown(value: object) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 30 else f"{text[:29]}…"
