"""CF115: validated on what its siblings train on

## Why

A sweep over still images was validated on the set of its siblings, half of which is video; its numbers came out close
to each other and were ranked all the same. Another pair trained on long videos only and was validated on short ones:
the effect that it was made for could not show.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8}
data: {train_files: data/cauldron/*.tar, val_files: data/val/*.tar}
```
```yaml beside file=video1.yaml
trainer: {max_steps: 500, batch_size: 16}
data: {train_files: data/openvid/*.tar, val_files: data/val/*.tar}
```
```yaml beside file=video2.yaml
trainer: {max_steps: 500, batch_size: 32}
data: {train_files: data/webvid/*.tar, val_files: data/val/*.tar}
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8}
data: {train_files: data/cauldron/*.tar, val_files: data/val-images/*.tar}
```
```yaml beside file=video1.yaml
trainer: {max_steps: 500, batch_size: 16}
data: {train_files: data/openvid/*.tar, val_files: data/val/*.tar}
```
```yaml beside file=video2.yaml
trainer: {max_steps: 500, batch_size: 32}
data: {train_files: data/webvid/*.tar, val_files: data/val/*.tar}
```

## What to do

Validate on held-out data of the kind that this config trains on, filtered as it is; keep the shared set as a second
measure. What a data set holds is known for public ones only, by their names.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    facts.need("siblings.paths")
    unlike = facts.get("siblings.validation")
    if unlike is None:
        return
    shared = f"{unlike.count} siblings"
    if unlike.key is not None:
        keys = {".".join(map(str, path)): position for path, position in facts.need("config.keys").items()}
        message = (
            f"{unlike.key} filters what this config trains on, but it validates on {unlike.validation}, as {shared} "
            "do that do not filter"
        )
        yield Finding(message, at=keys.get(unlike.key), fix="validate on data filtered alike", key=unlike.key)
        return
    message = (
        f"this config trains on {unlike.mine}, but validates on {unlike.validation}, as {shared} do that train on "
        f"{unlike.theirs}"
    )
    yield Finding(message, at="data.validation", fix=f"validate on held-out {unlike.mine}")
