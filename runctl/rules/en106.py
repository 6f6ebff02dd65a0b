"""EN106: more CPU threads than this machine has cores

## Why

Threads beyond the cores wait for each other: a training step on two cores took several times as long with many
threads as with two, and nothing said so.

## Fails

```yaml
training: {steps: 100, threads: 1024}
```

## Passes

```yaml
training: {steps: 100, threads: 1}
```

```yaml
training: {steps: 100}
```

## What to do

Leave `training.threads` out: all cores that the run may use are taken. It is a warning because the config may be meant
for a larger machine; it is only looked at where the run executes here (`compute.backend: local`).
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import counted

SEVERITY: Severity = "warning"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    threads, cores = facts.need("training.threads"), facts.need("machine.cores")
    if threads is not None and threads > cores:
        message = f"training.threads is {threads}, but a run may use {counted(cores, 'core')} of this machine"
        yield Finding(message, at="training.threads", fix="leave training.threads out: all cores are used")
