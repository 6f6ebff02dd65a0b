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

Of another trainer's config the files and globs are judged that name data for training or validation, and only where
this machine surely has the data: an error where a neighbour in the same list was found, a warning where the folder
holds other data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.light import pattern
from runctl.units import counted

SEVERITY: Severity = "error"
LAUNCH = True


def check(facts: Facts) -> Iterable[Finding]:
    if facts.foreign:
        yield from _sources(facts)
        return
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


_REMOTE = pattern(r"[a-zA-Z0-9+.-]+:")
MOST_WILD = 3  # parts of a path: more would be a long walk
_UNRESOLVED = ("${", "{{", "$(")
_BRACES = pattern(r"\{[^{}]*\}")
_SUFFIX = pattern(r"\.(tar|jsonl?|parquet|csv|tsv|txt|arrow|bin|npy|npz|h5|hdf5|pt|gz|zst|tfrecord|mds|lmdb)$")


def _sources(facts: Facts) -> Iterable[Finding]:
    """Files and globs of another trainer's config: an empty one beside others that are there."""
    named = [(name, one) for name in ("data.train", "data.validation") for one in facts.get(name) or ()]
    files = [(name, one) for name, one in dict.fromkeys(named) if _names_files(one)]
    if not files:
        raise NotChecked("no file and no glob of data was recognised")
    root = str(facts.project.root) if facts.project else ""
    looked = [(name, one, *_look(root, one)) for name, one in files]
    there = {(name, os.path.dirname(folder)): one for name, one, folder, found in looked if found}
    fix = "correct the path, or take it out: a trainer that skips it says nothing"
    for name, one, folder, found in looked:
        beside = there.get((name, os.path.dirname(folder)))
        message = f"{facts.key(name)}: nothing matches {one}"
        if not found and beside is not None:
            yield Finding(f"{message}, while {beside} is there", at=name, fix=fix)
        elif found is False:
            yield Finding(f"{message}, though {folder} holds other data", at=name, fix=fix, severity="warning")
    if all(found is None for _, _, _, found in looked):
        raise NotChecked(f"{files[0][1]} is not on this machine")


def _names_files(text: str) -> bool:
    """Whether a text surely names files: a glob in a folder, or a name with the suffix of a data file."""
    if _REMOTE.match(text) or any(sign in text for sign in _UNRESOLVED) or len(text) > 1000:
        return False
    return ("/" in text and any(sign in text for sign in "*?[{")) or bool(_SUFFIX.search(text.lower()))


def _look(root: str, text: str) -> tuple[str, bool | None]:
    """The folder before the first wildcard, and whether anything matches; None where this machine cannot tell, since it
    has no other data there either."""
    parts = (_BRACES.sub("*", text) if "{" in text else text).split("/")
    fixed = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts) - 1)
    folder = os.path.normpath(os.path.join(root, "/".join(parts[:fixed]) or ("/" if text.startswith("/") else "")))
    try:
        if len(parts) - fixed > MOST_WILD or not os.path.isdir(folder):
            return folder, None
        import glob  # few configs name files that are here

        if next(glob.iglob("/".join((glob.escape(folder), *parts[fixed:]))), None) is not None:
            return folder, True
        with os.scandir(folder) as entries:
            return folder, False if any(_SUFFIX.search(entry.name.lower()) for entry in entries) else None
    except (OSError, ValueError):
        return folder, None
