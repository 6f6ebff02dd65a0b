"""CK104: saved once an epoch, and an epoch is long

## Why

Checkpoints were kept at the end of an epoch only, and an epoch took more than six hours; a run that was ended after
9.1 hours lost its epoch. How long an epoch is changes with the data, the batch and the GPU; a cadence in time or steps
does not.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
checkpoint: {every: 1 epoch}
compute: {gpu: A100-40GB}
```

## Passes

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 4096, precision: bf16}
checkpoint: {every: 10m}
compute: {gpu: A100-40GB}
```

```yaml
data: {simulate: {games: 4, seconds: 20}}
training: {epochs: 3}
checkpoint: {every: 1 epoch}
```

## What to do

Set `checkpoint.every` to a time, `10m`, or to a number of steps. Where so much money is at risk between two saves that
it is an error, CK103 speaks; where nothing at all is saved before the end, CK102.

## Policy

An epoch is long if it takes more than `risk_time`, or has more than `long_run_steps` optimizer steps where the time is
not known. More than `risk_cost_error` at risk on a long run (`long_run`) is CK103's concern.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.rules import advice
from runctl.units import counted, format_duration

SEVERITY: Severity = "warning"
POLICY = ("risk_time", "long_run_steps", "risk_cost_error", "long_run")


def check(facts: Facts) -> Iterable[Finding]:
    every = facts.need("checkpoint.every")
    if every is None or every.epochs is None:
        return
    if facts.foreign and facts.get("run.steps_per_epoch") is None:
        raise NotChecked(f"how many steps an epoch has is not known: {facts.why('data.samples')}")
    steps = every.epochs * facts.need("run.steps_per_epoch")
    total, risk = facts.get("run.steps"), facts.get("estimate.at_risk")
    if total is not None and steps >= total:
        return  # CK102's concern
    step = advice.likely_step(facts)
    if step is None:
        if steps <= facts.policy["long_run_steps"]:
            return
        long = counted(steps, "step")
    else:
        length = facts.get("run.length")
        dear = risk is not None and risk.usd and risk.usd[1] > facts.policy["risk_cost_error"]
        if step * steps <= facts.policy["risk_time"] or (dear and length is not None and length.long):
            return
        long = f"about {format_duration(step * steps)}"
    message = f"{facts.key('checkpoint.every')} is {every}, and that is {long}"
    yield Finding(message, at="checkpoint.every", fix=advice.cadence(facts))
