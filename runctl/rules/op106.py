"""OP106: something that cannot begin, or cannot end, within the run

## Why

A run of two epochs was to have scheduled sampling at its full rate after three; what was compared with it was
therefore another experiment than the one in the plan. A patience that is longer than the run is no early stopping.

## Fails

```yaml
data: {simulate: {games: 8}}
training: {epochs: 2, scheduled_sampling: 0.3, ss_anneal_epochs: 3}
```

```yaml
trainer: {num_epochs: 3, batch_size: 8, learning_rate: 1.0e-4, early_stopping_patience: 5, eval_every_epochs: 1}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.epochs: trainer.num_epochs
      training.batch_size: trainer.batch_size
      training.lr: trainer.learning_rate
      training.early_stopping: trainer.early_stopping_patience
      training.patience: trainer.early_stopping_patience
      training.validate_every: {key: trainer.eval_every_epochs, unit: epochs}
```

## Passes

```yaml
data: {simulate: {games: 8}}
training: {epochs: 5, scheduled_sampling: 0.3, ss_anneal_epochs: 3}
```

## What to do

Shorten what is to happen within the run, or leave it out: `training.ss_anneal_epochs` below the run's epochs, a
patience of fewer validations than the run has, a validation for early stopping to look at.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.config.every import Every
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.rules import lengths
from runctl.units import counted

SEVERITY: Severity = "warning"


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        yield from _annealing(facts)
        return
    if facts.lacks("training.early_stopping"):
        return
    if not facts.get("training.early_stopping"):
        facts.need("training.early_stopping")
        return
    if "training.validate_every" in facts.values and facts.get("training.validate_every") is None:
        message = f"{facts.says('training.early_stopping')}, but {facts.says('training.validate_every')}"
        fix = f"set {facts.key('training.validate_every')}, or leave early stopping out"
        yield Finding(message, at="training.early_stopping", fix=fix)
        return
    patience, found = facts.need("training.patience"), _validations(facts)
    if found <= patience:
        times = counted(int(found), "validation")
        message = f"{facts.key('training.patience')} is {patience}, but the run has {times}: it can never end early"
        fix = f"set {facts.key('training.patience')}: {max(1, int(found) // 3)}, or validate more often"
        yield Finding(message, at=facts.place("training.patience", "training.early_stopping"), fix=fix)


def _annealing(facts: Facts) -> Iterable[Finding]:
    """Scheduled sampling, which reaches its full rate at the end of the annealing."""
    share, anneal = facts.need("training.scheduled_sampling"), facts.need("training.ss_anneal_epochs")
    if not share or not anneal:
        return
    epochs = facts.need("run.epochs")
    if epochs < anneal:
        reached = share * epochs / anneal
        message = f"training.ss_anneal_epochs is {anneal:g}, but the run has {counted(round(epochs, 2), 'epoch')}: "
        message += f"training.scheduled_sampling reaches {reached:.2g} of {share:g}"
        severity: Severity | None = "note" if lengths.overridden(facts) else None
        fix = "set training.ss_anneal_epochs to less than the run has"
        yield Finding(message, at="training.ss_anneal_epochs", fix=fix, severity=severity)


def _validations(facts: Facts) -> float:
    """How often the run validates. Raises NotChecked."""
    every: Every = facts.need("training.validate_every")
    if every.epochs is not None:
        return float(facts.need("run.epochs")) / every.epochs
    if every.steps is not None:
        return float(facts.need("run.steps")) / every.steps
    raise NotChecked("how often it validates is given as a time")
