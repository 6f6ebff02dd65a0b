"""OP101: the warm-up is as long as the run

## Why

The rate rises during the warm-up and only then falls. Where the warm-up never ends the peak is never reached, and the
run says nothing about the rate that its config names. It happens when a long run's warm-up stays in a config whose
length was cut: an edit of `steps: 500` once also changed `warmup_steps`, and nobody saw the plan that came out.

## Fails

```yaml
training: {steps: 500, warmup_steps: 2000}
```

```yaml
trainer: {epochs: 3, warmup_epochs: 5, batch_size: 64, lr: 0.1}
```

## Passes

```yaml
training: {steps: 500, warmup_steps: 50}
```

```yaml
training: {steps: 20}
```

## What to do

Set the warm-up to a small share of the run, 1 to 10 %. Where the run's length comes from `--set`, as in a smoke, it
is a warning, and also where another trainer counts its length otherwise; a default is never at fault, because
runctl's own trainer cuts it to the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.adapters.spec import normal
from runctl.facts import Facts, Finding, Severity
from runctl.rules import lengths
from runctl.units import counted

SEVERITY: Severity = "error"
SHARE = 0.05  # of the run, in the fix
_EPOCHS = frozenset(("warmup_epochs", "warmup_epoch", "num_warmup_epochs", "lr_warmup_epochs", "n_warmup_epochs"))


def check(facts: Facts) -> Iterable[Finding]:
    warmup, share = facts.get("training.warmup_steps"), facts.get("training.warmup_ratio")
    if not warmup and share is not None:
        if share >= 1:
            message = f"{facts.says('training.warmup_ratio')}: the whole run is warm-up"
            fix = f"set {facts.key('training.warmup_ratio')}: {SHARE}"
            guessed: Severity | None = "warning" if facts.dialect == "generic" else None  # it may be in percent
            yield Finding(message, at="training.warmup_ratio", fix=fix, severity=guessed)
        return
    passes = facts.get("training.epochs") if facts.foreign and not facts.get("training.steps") else None
    if not warmup and passes and (found := list(_in_epochs(facts, passes))):
        yield from found
        return
    warmup, steps = facts.need("training.warmup_steps"), facts.need("run.steps")
    source = facts.source("training.warmup_steps")
    if warmup < steps or not warmup or (source and source.kind == "default"):
        return
    message = f"{facts.key('training.warmup_steps')} is {warmup:,}, but the run has {counted(steps, 'step')}"
    fix = f"set {facts.key('training.warmup_steps')}: {max(1, round(steps * SHARE))}"
    counted_in_steps = facts.get("training.steps") is not None or not facts.foreign
    severity: Severity | None = None if counted_in_steps and not lengths.overridden(facts) else "warning"
    yield Finding(message, at="training.warmup_steps", fix=fix, severity=severity)


def _in_epochs(facts: Facts, passes: float) -> Iterable[Finding]:
    """Warm-up that is counted in passes over the data, as the run is."""
    for one in facts.get("config.scalars", ()):
        known = normal(one.key.rpartition(".")[2]) in _EPOCHS and type(one.value) in (int, float)
        if known and one.value >= passes > 0:
            message = f"{one.key} is {one.value:g}, but the run has {counted(passes, 'epoch')}"
            fix = f"set {one.key} well below {facts.key('training.epochs')}"
            yield Finding(message, at=one.position, fix=fix, key=one.key)
