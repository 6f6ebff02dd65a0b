"""DA103: NaN or infinite values in the dataset

## Why

70 NaNs in a hitstun column of a billion values turned the loss into NaN at batch 1000 of a paid run.

## Fails

```yaml
data: {encoded: data/encoded}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "frames": 1000000, "games": 80,
 "columns": {"p0_x": {"min": -90.0, "max": 90.0, "nan": 70, "inf": 0, "constant": false}}}
```

## Passes

```yaml
data: {encoded: data/encoded}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "frames": 1000000, "games": 80,
 "columns": {"p0_x": {"min": -90.0, "max": 90.0, "nan": 0, "inf": 0, "constant": false}}}
```

## What to do

Find the games that hold them and encode again without those; the manifest counts bad values by column.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    bad = []
    for name, audit in facts.need("dataset.columns").items():
        counts = [(audit.get("nan") or 0, "NaN"), (audit.get("inf") or 0, "infinite")]
        bad += [f"{name}: {count:,} {kind}" for count, kind in counts if count]
    if bad:
        more = f" and {len(bad) - 8} more columns" if len(bad) > 8 else ""
        message = f"{facts.need('dataset.folder')} holds values that are not numbers: {', '.join(bad[:8])}{more}"
        yield Finding(message, at="data.encoded", fix="encode again without the games that hold them")
