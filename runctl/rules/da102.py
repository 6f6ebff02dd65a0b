"""DA102: the dataset is missing or empty

## Why

A tar extracted into the wrong folder encoded 0 games without an error and cost a run; a misspelt folder in a
list of sources was noticed only because of what the model did not learn.

## Fails

```yaml
data: {encoded: data/encoded}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 0, "games": 0}
```

```yaml
data: {encoded: data/not-encoded-yet}
training: {steps: 100}
```

## Passes

```yaml
data: {encoded: data/encoded}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 18000, "games": 2}
```

## What to do

Encode it (`runctl encode CONFIG --replays FOLDER`), or correct `data.encoded`, which is relative to the project's
folder. Not encoded yet is a warning, and an error at launch. A committed `<encoded>.manifest.json` stands in for the
arrays until a launch. A folder outside the project that is not here is not judged before a launch.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import counted

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    for which in ("train", "validation"):
        if facts.get(f"data.{which}_windows") == 0 and facts.get("dataset.frames") != 0:
            context, kind = facts.get("model.context_len"), {"train": "training"}.get(which, which)
            message = f"no {kind} window: no game on that side is longer than model.context_len = {context} frames"
            yield Finding(
                message, at="model.context_len", fix="lower model.context_len, or encode longer or more games"
            )
            return
    place, folder = facts.need("dataset.place"), facts.need("dataset.folder")
    unreadable = facts.get("dataset.unreadable")
    here = facts.get("compute.backend") == "local"
    encode = f"make it with: runctl encode {facts.path} --replays FOLDER"
    if unreadable is not None:
        yield Finding(str(unreadable), at="data.encoded", fix="encode again, or restore the manifest")
    elif place == "file":
        message = f"data.encoded: {folder} is a file, not the folder of an encoded dataset"
        yield Finding(message, at="data.encoded", fix="give the folder that runctl encode made")
    elif place == "partial":
        message = f"data.encoded: {folder} is not a whole dataset: it has no manifest.json"
        yield Finding(message, at="data.encoded", fix=encode)
    elif place == "elsewhere" and not facts.launching:
        raise NotChecked(f"{folder} is outside the project and not on this machine")
    elif place in ("absent", "elsewhere", "committed") and facts.launching and not here:
        raise NotChecked(f"{folder} is not on this machine, and the run is not to be here")
    elif place in ("absent", "elsewhere"):
        message = f"data.encoded: {folder} is not there" + ("" if facts.launching else " yet")
        yield Finding(message, at="data.encoded", fix=encode, severity="error" if facts.launching else "warning")
    elif place == "committed" and facts.launching:
        message = f"data.encoded: {folder} is not there, only its committed manifest"
        yield Finding(message, at="data.encoded", fix=encode)
    elif not facts.need("dataset.frames") or not facts.need("dataset.games"):
        games, frames = facts.get("dataset.games", 0), facts.get("dataset.frames", 0)
        message = f"data.encoded: {folder} holds {counted(games, 'game')} with {counted(frames, 'frame')}"
        yield Finding(
            message, at="data.encoded", fix="encode replays that exist: see the reasons in its manifest's skipped list"
        )
