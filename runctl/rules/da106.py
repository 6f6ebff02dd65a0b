"""DA106: the same data on both sides of the split

## Why

A model that has seen its exam passes it. Every number of the validation is then a number of the training, the best
checkpoint is the most overfitted one, and nothing in the log shows it.

## Fails

```yaml
data: {encoded: data/encoded}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 300000, "games": [
 {"identity": "a", "frames": 100000, "source": "a.slp", "sha256": "11"},
 {"identity": "b", "frames": 100000, "source": "b.slp", "sha256": "22"},
 {"identity": "c", "frames": 100000, "source": "copy of a.slp", "sha256": "11"}]}
```

```yaml
data: {train_files: "shards/*.tar", val_files: "shards/*.tar"}
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003}
```

## Passes

```yaml
data: {encoded: data/encoded}
training: {steps: 100}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 300000, "games": [
 {"identity": "a", "frames": 100000, "source": "a.slp", "sha256": "11"},
 {"identity": "b", "frames": 100000, "source": "b.slp", "sha256": "22"},
 {"identity": "c", "frames": 100000, "source": "c.slp", "sha256": "33"}]}
```

```yaml
data: {train_files: "shards/train/*.tar", val_files: "shards/val/*.tar"}
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003}
```

## What to do

Remove the copies and encode again, or hold out files of their own. A dataset that is split by its name (`split: train`,
`split: validation`) may be named on both sides, and so may one of which a share is held out; a folder or name that is
named twice without either is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import counted

SEVERITY: Severity = "error"
_GLOB = frozenset("*?[{")
_SUFFIXES = (
    ".tar", ".jsonl", ".json", ".parquet", ".csv", ".tsv", ".txt", ".arrow", ".bin", ".npy", ".npz", ".h5", ".hdf5",
    ".pt", ".gz", ".zst", ".lmdb", ".tfrecord", ".mds",
)  # fmt: skip


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        yield from _games(facts)
        return
    train, held_out = facts.need("data.train"), facts.need("data.validation")
    both = [one for one in dict.fromkeys(train) if one in held_out]
    if not both or facts.get("data.validation_share") or _split_by_name(facts):
        return
    files = [one for one in both if _files(one)]
    shown = ", ".join((files or both)[:3])
    keys = f"{facts.key('data.train')} and {facts.key('data.validation')}"
    severity: Severity = "error" if files else "warning"
    fix = "hold out files of their own" if files else "hold out data of their own, or name the split of each side"
    yield Finding(f"{keys} both read {shown}", at="data.validation", fix=fix, severity=severity)


def _games(facts: Facts) -> Iterable[Finding]:
    both = facts.get("dataset.both_sides")
    if both is None:
        facts.need("dataset.frames")
        raise NotChecked("the manifest counts the games and does not list them")
    if both:
        first, other = both[0]
        message = f"{counted(len(both), 'game')} of {facts.need('dataset.folder')} stand on both sides of the split"
        message += f": {other} is {first}" if first != other else f": {first}"
        yield Finding(message, at="data.encoded", fix="remove the copies, and encode again")


def _files(path: str) -> bool:
    """Whether it names certain files, which cannot be anything else on the other side."""
    return bool(_GLOB & set(path)) or path.lower().endswith(_SUFFIXES)


def _split_by_name(facts: Facts) -> bool:
    """Whether the config speaks of splits by name: `split: train[:90%]`, `eval_split: test`."""
    try:
        written = facts.need("config.scalars")
    except NotChecked:
        return False
    return any("split" in one.key.rpartition(".")[2].lower() for one in written)
