"""WV101: a waiver that does not hold

## Why

`# runctl: allow RULE reason` switches a rule off for one config. Without a reason nobody can judge it in a review;
one that allows nothing any more would hide the next real finding.

## Fails

```yaml
training: {steps: 200}
checkpoint: {every: never}  # runctl: allow CK101 smoke run
```

```yaml
training: {steps: 50000}
checkpoint: {every: never}  # runctl: allow CK101
```

## Passes

```yaml
training: {steps: 50000}
checkpoint: {every: never}  # runctl: allow CK101 throughput test, nothing to keep
```

## What to do

Give the reason after the rule's id, or delete the comment. A config that cannot be read (CF100, CF101, CF103)
cannot be allowed to run.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    for waiver, fault in facts.need("waivers"):
        fix = "write: # runctl: allow RULE reason" if "reason" in fault else "delete the comment, or correct it"
        yield Finding(f"this waiver {fault}", at=waiver.position, fix=fix)
