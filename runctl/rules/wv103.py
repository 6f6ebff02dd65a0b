"""WV103: a known finding that is no longer there

## Why

The baseline says which findings were there when the team began, so that only new ones fail. An entry that stays after
its finding was mended would let the same mistake come back unseen.

## Fails

```yaml file=runctl.yaml
baseline: known.json
```

```yaml beside file=configs/mended.yaml
training: {steps: 50000, precision: bf16, seed: 1}
checkpoint: {every: 10m}
```

```yaml beside file=known.json
{"schema_version": 1, "findings": [
  {"fingerprint": "c0ffee", "rule": "CK101", "path": "configs/mended.yaml", "key": "checkpoint.every"}
]}
```

## Passes

```yaml file=runctl.yaml
baseline: known.json
```

```yaml beside file=configs/mended.yaml
training: {steps: 50000, precision: bf16, seed: 1}
checkpoint: {every: 10m}
```

```yaml beside file=known.json
{"schema_version": 1, "findings": []}
```

## What to do

Write the baseline anew: `runctl preflight FOLDER --create-baseline` drops what is gone and keeps what it was not shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
PROJECT = True


def check(facts: Facts) -> Iterable[Finding]:
    for entry, fault in facts.need("project.baseline"):
        fix = "write it anew: runctl preflight FOLDER --create-baseline"
        yield Finding(f"the baseline is out of date: {fault}", at=entry.position, fix=fix)
