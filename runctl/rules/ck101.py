"""CK101: a long run that saves no checkpoints

## Why

A 50,000-step run without checkpoints ran 24.5 hours on two A100s and left nothing to keep; every crash,
timeout and preemption then costs the whole run.

## Fails

```yaml
training: {steps: 50000}
checkpoint: {every: never}
```

```yaml
trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003}
```

## Passes

```yaml
training: {steps: 50000}
checkpoint: {every: 10m}
```

```yaml
training: {steps: 200}
checkpoint: {every: never}
```

```yaml
trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003, save_steps: 1000}
```

## What to do

Set `checkpoint.every` to the time that you can afford to lose: `5m`, `10m` or `500 steps`. Short runs need none.

Of another trainer's config it is an error where it says that nothing is saved, or says nothing and the adapter knows
that the trainer then saves nothing; a warning where it says nothing and nobody knows what the trainer then does (some
save whenever they validate). An adapter says it with `defaults: {checkpoint.every: never}`, or `500 steps`.

## Policy

A run is long if it is estimated to take more than `long_run`, or has more than `long_run_steps` optimizer steps
where no measured time is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.rules import advice

SEVERITY: Severity = "error"
POLICY = ("long_run", "long_run_steps")
_LENGTHS = ("checkpoint.every", "run.steps", "training.steps", "training.epochs", "training.time_limit")


def check(facts: Facts) -> Iterable[Finding]:
    if facts.foreign and "checkpoint.every" not in facts.values:
        yield from _unsaid(facts)
        return
    if facts.need("checkpoint.every") is not None:
        return
    length = facts.need("run.length")
    if length.long:
        key = facts.key("checkpoint.every")
        source = facts.source("checkpoint.every")
        said = f"{key} is never"
        if facts.foreign:
            said = f"{key} says that no checkpoint is saved"
            if source is not None and source.kind == "default" and not source.detail.startswith("of "):
                yield from _unsaid(facts)  # it is no trainer's known default, but what was found of none
                return
            if source is not None and source.kind == "default":
                said = f"{key} is not set, and {facts.dialect} then saves no checkpoint"
        message = f"{said}, but the run is long ({length.why}): if it dies, all of it is lost"
        yield Finding(message, at=facts.place(*_LENGTHS), fix=advice.cadence(facts))


def _unsaid(facts: Facts) -> Iterable[Finding]:
    """A config that does not say when it saves, of a trainer whose habit nobody stated."""
    length = facts.get("run.length")
    if length is None:
        epochs = facts.get("training.epochs")
        if not epochs or epochs <= 1:
            raise NotChecked(f"{facts.why('checkpoint.every')}, and how long the run is is not known")
        why = f"{epochs:g} passes over data that nobody counted"
    elif length.long:
        why = length.why
    else:
        return
    message = f"nothing here says when checkpoints are saved, and the run is long ({why})"
    if length is None:
        message = f"nothing here says when checkpoints are saved, and the run may be long ({why})"
    fix = f"{advice.cadence(facts)}; or tell the adapter what the trainer does by itself"
    yield Finding(message, at=facts.place(*_LENGTHS), fix=fix, severity="warning")
