"""DA101: the dataset was encoded with another encoding

## Why

A re-encode that forgot one override wrote the old encoding under a new name, and an experiment ran on it. What
the columns mean is decided when they are written; the config of the run cannot change it afterwards.

## Fails

```yaml
data: {encoded: data/encoded}
encoding: {state_age_as_embed: true, hitstun: true}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 1000000, "games": 120, "encoding_digest": "0",
 "encoding": {"state_age_as_embed": true, "projectiles": false, "state_flags": false, "hitstun": false,
  "action_vocab": 400, "jumps_vocab": 8, "character_vocab": 33, "l_cancel_vocab": 3, "hurtbox_vocab": 3,
  "ground_vocab": 32, "last_attack_vocab": 64, "state_age_embed_vocab": 150, "stage_vocab": 33}}
```

## Passes

```yaml
data: {encoded: data/encoded}
encoding: {state_age_as_embed: true}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 1000000, "games": 120,
 "encoding": {"state_age_as_embed": true, "projectiles": false, "state_flags": false, "hitstun": false,
  "action_vocab": 400, "jumps_vocab": 8, "character_vocab": 33, "l_cancel_vocab": 3, "hurtbox_vocab": 3,
  "ground_vocab": 32, "last_attack_vocab": 64, "state_age_embed_vocab": 150, "stage_vocab": 33}}
```

## What to do

Encode again with this config (`runctl encode CONFIG --replays FOLDER`), point `data.encoded` to the dataset that was
meant, or make the `encoding` section say what the dataset holds. Scales and embedding widths may differ freely.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    stored, wanted = facts.need("dataset.encoding"), facts.need("encoding.keys")
    folder = facts.need("dataset.folder")
    if not isinstance(stored, dict):
        yield Finding(f"the manifest of {folder} does not list its encoding", at="data.encoded", fix="encode again")
        return
    keys = [key for key in {**wanted, **stored} if stored.get(key) != wanted.get(key)]
    if keys:
        differences = ", ".join(
            f"{key} is {_shown(stored.get(key))} there and {_shown(wanted.get(key))} here" for key in keys
        )
        at = facts.place(*(f"encoding.{key}" for key in keys), "data.encoded")
        yield Finding(f"{folder} was encoded otherwise: {differences}", at=at, fix=_FIX)
        return
    digest = facts.get("dataset.encoding_digest")
    if digest is not None and digest != facts.need("encoding.digest"):
        formats = f"{str(digest)[:12]}, not {facts.need('encoding.digest')[:12]}"
        message = f"{folder} has the same encoding in another record format ({formats})"
        yield Finding(message, at="data.encoded", fix=_FIX)


_FIX = "encode again with this config, or point data.encoded to the dataset that was meant"


def _shown(value: object) -> str:
    if value is None:
        return "absent"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
