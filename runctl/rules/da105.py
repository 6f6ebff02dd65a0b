"""DA105: ids or shapes that the model has no room for

## Why

A hard-coded target width of 30 met 112 columns at start-up on a paid GPU. An id beyond its embedding table is
worse: on a GPU it ends the process with an assertion that names no column.

## Fails

```yaml
data: {encoded: data/encoded}
encoding: {action_vocab: 300}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "frames": 1000000, "games": 80,
 "columns": {"p0_action": {"min": 0, "max": 385, "constant": false, "clipped": 0}}}
```

## Passes

```yaml
data: {encoded: data/encoded}
encoding: {action_vocab: 400}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "frames": 1000000, "games": 80,
 "columns": {"p0_action": {"min": 0, "max": 385, "constant": false, "clipped": 0}}}
```

## What to do

Raise the vocabulary in `encoding` to more than the largest id, and encode again. Ids that were cut to fit when the
dataset was encoded are a note, and a warning above the policy's share; state ages are cut on purpose.

## Policy

`clipped_ids` is the share of frames whose id may have been cut before it is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True
POLICY = ("clipped_ids",)


def check(facts: Facts) -> Iterable[Finding]:
    audits, frames = facts.need("dataset.columns"), facts.get("dataset.frames") or 1
    layout, folder = facts.need("encoding.layout"), facts.need("dataset.folder")
    yield from _shapes(facts)
    vocabs: dict[str, int] = {}
    found: dict[str, list[tuple[float, float, str]]] = {}  # by vocabulary: (largest id, share cut to fit, column)
    for column in layout.columns:
        audit = audits.get(column.name)
        if column.vocab is not None and isinstance(audit, dict) and audit.get("max") is not None:
            key = f"encoding.{'state_age_embed' if column.field == 'state_age' else column.field}_vocab"
            cut = 0 if column.field == "state_age" else (audit.get("clipped") or 0) / frames
            found.setdefault(key, []).append((audit["max"], cut, column.name))
            vocabs[key] = column.vocab
    for key, columns in found.items():
        largest, _, name = max(columns)
        share = max(cut for _, cut, _ in columns)
        if largest >= vocabs[key]:
            message = f"{facts.says(key)}, but {name} goes up to {largest:g} in {folder}"
            yield Finding(
                message,
                at=facts.place(key, "data.encoded"),
                fix=f"set {key}: {int(largest) + 1} or more, and encode again",
            )
        elif share:
            names = " and ".join(name for _, cut, name in columns if cut)
            severity: Severity = "warning" if share > facts.policy["clipped_ids"] else "note"
            message = f"{facts.says(key)}: up to {share:.2%} of the ids of {names} in {folder} were cut to fit"
            yield Finding(
                message, at=facts.place(key, "data.encoded"), fix=f"raise {key}, and encode again", severity=severity
            )


def _shapes(facts: Facts) -> Iterable[Finding]:
    """The stored record against the one that this encoding has; other encodings are DA101's concern."""
    stored = facts.get("dataset.layout")
    if stored is None or facts.get("dataset.encoding_digest") != facts.get("encoding.digest"):
        return
    wanted = facts.need("encoding.layout").to_manifest()
    if stored != wanted:
        sizes = (
            f"{stored.get('record_bytes')} bytes a frame, not {wanted['record_bytes']}"
            if isinstance(stored, dict)
            else "no layout"
        )
        message = f"{facts.need('dataset.folder')} stores its frames otherwise than this encoding does: {sizes}"
        yield Finding(message, at="data.encoded", fix="encode again with this config")
