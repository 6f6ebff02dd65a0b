"""CK106: an output folder that is not this run's own

## Why

One fixed checkpoint path was used by two experiments: the second loaded the first one's weights, trained nothing, and
printed that it had done excellently. Where a trainer resumes by itself, every variant that shares the folder of
another goes on from the other's checkpoint; where it does not, it overwrites it. One launcher began by deleting the
folder that it shared.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8, output_dir: out/wide, resume: auto}
model: {width: 512}
```
```yaml beside file=other.yaml
trainer: {max_steps: 500, batch_size: 8, output_dir: out/wide, resume: auto}
model: {width: 1024}
```

```yaml
trainer: {max_steps: 500, batch_size: 8, output_dir: outputs}
model: {width: 512}
```

```yaml
trainer: {max_steps: 500, batch_size: 8, output_dir: out/stage1, resume: auto, run_name: "stage1-${SIZE}"}
model: {width: 512}
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8, output_dir: out/wide-512, resume: auto}
model: {width: 512}
```
```yaml beside file=other.yaml
trainer: {max_steps: 500, batch_size: 8, output_dir: out/wide-1024, resume: auto}
model: {width: 1024}
```

## What to do

Give each variant a folder that names what makes it differ. Where a folder in the project is not empty, resume from it
on purpose or take another; a preflight warns of that, a launch is refused. runctl's own runs each get a folder of
their own, which is never written twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.gathering import outputs, siblings

SEVERITY: Severity = "error"
LAUNCH = True
_LIBRARIES = ("hf", "axolotl")  # refuse a folder that is not empty, or are told to overwrite it


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        return
    folder, key = facts.need("run.output"), facts.key("run.output")
    shared = facts.get("siblings.same_output")
    if shared is not None:
        yield _shared(facts, shared)
        return
    name = facts.get("run.name")
    resumes = str(facts.get("run.resume")).lower() in siblings.AUTO
    if name and resumes and outputs.open_part(str(name)) and not outputs.open_part(folder):
        message = f"the run's name has the variable part {name}, but {key} {folder} has none, and it resumes by itself"
        fix = f"write the variable part into {key} too: the second variant would go on from the first one's checkpoint"
        yield Finding(message, at="run.output", fix=fix, severity="warning")
    elif outputs.general(folder):
        message = f"{key} is {folder}, which any other run could write to as well"
        severity: Severity = "note" if name or facts.dialect in _LIBRARIES else "warning"  # it may add the run's name
        yield Finding(message, at="run.output", fix="name the run in it", severity=severity)
    yield from _used(facts, folder)


def _shared(facts: Facts, shared: siblings.Sharing) -> Finding:
    other = siblings.relative(shared.path, facts.path)
    more = f" and {shared.count - 1} more" if shared.count > 1 else ""
    message = f"{facts.key('run.output')} is {facts.get('run.output')}, which {other}{more} writes to as well"
    if shared.resumes and shared.differs:
        message += ", and a run that resumes by itself would go on from the other's checkpoint"
    fix = "give each variant an output folder of its own"
    return Finding(
        message, at="run.output", fix=fix, severity="error" if shared.resumes and shared.differs else "warning"
    )


def _used(facts: Facts, folder: str) -> Iterator[Finding]:
    """What is in the folder already, where it can be looked into."""
    if facts.get("run.resume") not in (None, "", "false", "False", "never", "none"):
        return
    try:
        count, path = outputs.entries(facts)
    except NotChecked:
        return
    if count:
        entries = "1 entry" if count == 1 else f"{count} entries"
        message = (
            f"{facts.key('run.output')} is {folder}, and {path} holds {entries} already, but nothing resumes from it"
        )
        fix = "resume from it on purpose, or write to another folder"
        yield Finding(message, at="run.output", fix=fix, severity="error" if facts.launching else "warning")
