"""DA104: a feature is on, but its columns never change

## Why

Projectile features were switched on for a whole experiment while 0 of 500 games held any item, and the stage id was
always 0: the model was given zeros, and the ablation compared nothing.

## Fails

```yaml
data: {encoded: data/encoded}
encoding: {projectiles: true}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "frames": 1000000, "games": 500, "columns": {
 "p0_item_dx": {"min": 0, "max": 0, "constant": true}, "p0_item_dy": {"min": 0, "max": 0, "constant": true},
 "p0_items": {"min": 0, "max": 0, "constant": true}, "p1_item_dx": {"min": 0, "max": 0, "constant": true},
 "p1_item_dy": {"min": 0, "max": 0, "constant": true}, "p1_items": {"min": 0, "max": 0, "constant": true}}}
```

## Passes

```yaml
data: {encoded: data/encoded}
encoding: {projectiles: true}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "frames": 1000000, "games": 500, "columns": {
 "p0_item_dx": {"min": -80, "max": 75, "constant": false}, "p0_item_dy": {"min": -9, "max": 40, "constant": false},
 "p0_items": {"min": 0, "max": 3, "constant": false}, "p1_item_dx": {"min": -80, "max": 75, "constant": false},
 "p1_item_dy": {"min": -9, "max": 40, "constant": false}, "p1_items": {"min": 0, "max": 3, "constant": false}}}
```

## What to do

Switch the feature off, or encode games that have it. Single columns that never change (rare state flags) are a note,
and so is a dataset that was played on one stage.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True

FEATURES = {
    "projectiles": ("item_dx", "item_dy", "items"),
    "state_flags": ("flags0", "flags1", "flags2", "flags3", "flags4"),
    "hitstun": ("hitstun",),
    "state_age_as_embed": ("state_age",),
}


def check(facts: Facts) -> Iterable[Finding]:
    columns, folder = facts.need("dataset.columns"), facts.need("dataset.folder")
    for feature, fields in FEATURES.items():
        there = {name: audit for name, audit in columns.items() if name.partition("_")[2] in fields}
        if not facts.need(f"encoding.{feature}") or not there:
            continue
        fixed = [name for name, audit in there.items() if audit.get("constant")]
        if len(fixed) == len(there):
            message = (
                f"encoding.{feature} is on, but all its {len(there)} columns are constant in {folder} ({_range(there)})"
            )
            fix = f"set encoding.{feature}: false, or encode games that have it"
            yield Finding(message, at=f"encoding.{feature}", fix=fix)
        elif fixed:
            names = ", ".join(fixed[:6])
            message = f"encoding.{feature}: {len(fixed)} of {len(there)} columns never change in {folder}: {names}"
            yield Finding(message, at=f"encoding.{feature}", severity="note")
    stage = columns.get("stage")
    if stage and stage.get("constant"):
        message = f"the stage is always {stage.get('max'):g} in {folder}"
        if stage.get("max"):
            yield Finding(message, at="data.encoded", severity="note")
        else:
            yield Finding(message, at="data.encoded", fix="check how the replays' stage is read")


def _range(columns: dict[str, dict[str, object]]) -> str:
    values = sorted({str(audit.get("max")) for audit in columns.values()})
    return "always " + " or ".join(values[:3])
