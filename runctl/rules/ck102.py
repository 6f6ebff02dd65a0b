"""CK102: the first checkpoint comes after the end

## Why

A cadence longer than the run is no cadence: a toy run's `save_every` copied into a long config, or a long run's into
a short one, saves nothing before the end. Runs that committed their checkpoints only at the end would have lost six
hours and more.

## Fails

```yaml
training: {steps: 20000}
checkpoint: {every: 50000 steps}
```

```yaml
trainer: {max_steps: 3000, save_steps: 5000, batch_size: 8, lr: 0.0003}
```

## Passes

```yaml
training: {steps: 20000}
checkpoint: {every: 1000 steps}
```

```yaml
training: {steps: 200}
checkpoint: {every: 10m}
```

```yaml
trainer: {max_steps: 100, save_steps: 500, batch_size: 8, lr: 0.0003}
```

## What to do

Set `checkpoint.every` well below the length of the run. For short runs this is a note, and for the default cadence
not even that: losing one costs little. In another trainer's config it is a warning unless the run is a smoke test.

## Policy

A run is long if it is estimated to take more than `long_run`, or has more than `long_run_steps` optimizer steps
where no measured time is known. A cadence in time that is no longer than `long_run` never misses a long run. Up to
`smoke_steps` steps are a smoke test. A cadence that is exactly the length of another trainer's run is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice
from runctl.units import counted, format_duration

SEVERITY: Severity = "error"
POLICY = ("long_run", "long_run_steps", "smoke_steps")


def check(facts: Facts) -> Iterable[Finding]:
    every = facts.need("checkpoint.every")
    if every is None:
        return  # CK101's concern
    if every.seconds is not None:
        if facts.get("estimate.time") is None and every.seconds <= facts.policy["long_run"]:
            return  # whatever it misses is short
        time = facts.need("estimate.time")
        missed, whole = every.seconds >= time.likely, f"about {format_duration(time.likely)}"
    elif every.epochs is not None:
        epochs = facts.need("run.epochs")
        missed, whole = every.epochs >= epochs, counted(epochs, "epoch")
    else:
        steps = facts.need("run.steps")
        missed, whole = every.steps >= steps, counted(steps, "step")
    if not missed:
        return
    length, source = facts.get("run.length"), facts.source("checkpoint.every")
    long = length is not None and length.long
    if source is not None and source.kind == "default" and not long:
        return  # nobody chose it, and losing a short run costs little
    key = facts.key("checkpoint.every")
    verb = "saves every" if "per_epoch" in key else "is"
    message = f"{key} {verb} {_words(every)}, but the run is {whole} long: nothing is saved "
    message += "before its end"
    if facts.get("run.resume") is not None:
        message += f", so that {facts.key('run.resume')} has nothing to go on from"
    severity: Severity = "error" if long else "note"
    steps = facts.get("run.steps")
    if facts.foreign and not long and (steps is None or steps > facts.policy["smoke_steps"]):
        severity = "warning"
    if facts.foreign and every.steps is not None and every.steps == steps and severity == "error":
        severity = "warning"  # it saves at the end, as somebody may have wanted; CK103 weighs what is at risk
    fix = f"set {facts.key('checkpoint.every')} well below the run's length"
    yield Finding(
        message, at="checkpoint.every", fix=advice.cadence(facts) if facts.foreign else fix, severity=severity
    )


def _words(every: object) -> str:
    seconds = getattr(every, "seconds", None)
    return str(every) if seconds is None else format_duration(seconds)
