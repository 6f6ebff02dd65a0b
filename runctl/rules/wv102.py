"""WV102: a waiver of runctl.yaml that does not hold

## Why

A waiver by path speaks for files that nobody opens to read it. Without a reason nobody can judge it in a review; past
its day it was meant to be over; and one that allows nothing any more would hide the next real finding.

## Fails

```yaml file=runctl.yaml
waivers:
  - {rule: CK101, paths: ["configs/*.yaml"], reason: throughput tests keep nothing}
```

```yaml beside file=configs/kept.yaml
training: {steps: 50000, precision: bf16, seed: 1}
checkpoint: {every: 10m}
```

```yaml file=runctl.yaml
waivers:
  - {rule: CK101, paths: ["configs/*.yaml"], reason: until the disk is there, until: 2020-01-31}
```

## Passes

```yaml file=runctl.yaml
waivers:
  - {rule: CK101, paths: ["configs/*.yaml"], reason: throughput tests keep nothing}
```

```yaml beside file=configs/throughput.yaml
training: {steps: 50000, precision: bf16, seed: 1}
checkpoint: {every: never}
```

## What to do

Delete the waiver, correct its rule or paths, or give its reason. That a waiver allows nothing is only said where every
file that its paths mean was checked in this call.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
PROJECT = True


def check(facts: Facts) -> Iterable[Finding]:
    for waiver, fault in facts.need("project.waivers"):
        fix = "add reason: why it is allowed" if "reason" in fault else "delete the waiver, or correct it"
        yield Finding(f"this waiver {fault}", at=waiver.position, fix=fix)
