"""OP102: a learning rate that models of this size do not usually bear

## Why

A large model was trained for seven hours at the rate that had been found for the small one; the sweep that showed
better came afterwards. Larger models bear smaller rates: from 125M to 175B parameters the published peak falls by ten.

## Fails

```yaml
training: {steps: 100, lr: 0.3}
```

```yaml
task: train
model: {parameters: 6.7B}
optimizer: {name: adamw, learning_rate: 5.0e-3}
trainer: {max_steps: 1000, batch_size: 8}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      declares.parameters: model.parameters
      training.optimizer: optimizer.name
      training.lr: optimizer.learning_rate
      training.steps: trainer.max_steps
      training.batch_size: trainer.batch_size
```

## Passes

```yaml
training: {steps: 100, lr: 3.0e-4}
```

## What to do

Take the published rate as a start and try a few around it on short runs. It is a warning because a schedule, a batch
or a parametrisation may call for another; SGD is judged by a range of its own, and an optimizer that the table does
not know is not judged. The table with its sources is `data/learning_rates.yaml`; of parameter groups only rates that
are too high are told.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.estimate import learning_rates
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.rules import lr_groups
from runctl.units import format_count

SEVERITY: Severity = "warning"
ADAM_ABOVE = 50_000_000  # parameters from which an unnamed optimizer is taken to be of Adam's kind


def check(facts: Facts) -> Iterable[Finding]:
    parameters = facts.need("model.parameters")
    optimizer = str(facts.get("training.optimizer") or ("" if facts.foreign else "adamw"))
    if not optimizer and parameters < ADAM_ABOVE:
        raise NotChecked(facts.why("training.optimizer"))
    band = learning_rates.band(parameters, _kind(facts), optimizer or "adam")
    if band is None:
        raise NotChecked(f"the rates that {optimizer[:40]} usually bears are not known")
    size = f"{format_count(parameters)} parameters"
    usual = f"{band.low:.1g} to {band.high:.1g}"
    if band.published is not None:
        usual += f", about {band.published:.1g} ({band.source})"
    rates = {(facts.key("training.lr"), rate): "training.lr" for rate in [facts.get("training.lr")] if rate is not None}
    groups = {} if rates else {(key, rate): at.position for key, rate, at in lr_groups.of(facts)}
    if not rates and not groups:
        raise NotChecked(facts.why("training.lr"))
    for (key, rate), at in [*rates.items(), *groups.items()]:
        low = rate < band.low and (key, rate) in rates and rate != 0
        if rate > band.high or low:
            message = f"{key} is {rate:g} with {size}; usual are {usual}"
            near = band.published or (band.high if rate > band.high else band.low)
            yield Finding(message, at=at, fix=f"try {key}: {near:.1g} first, on a short run")


def _kind(facts: Facts) -> str:
    if facts.get("training.adapter"):
        return "lora"
    if facts.get("run.init_from"):
        return "finetune"
    return "unknown" if facts.foreign else "scratch"
