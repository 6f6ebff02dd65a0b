"""CK103: too much at risk between two checkpoints

## Why

Checkpoints that were kept only at the end of an epoch would have lost more than six hours, and a run that was ended
after 9.1 hours did lose its epoch. What lies between two checkpoints is the price of every crash, timeout and
preemption.

## Fails

```yaml
data: {max_games: 2000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 20, batch_size: 4096, precision: bf16}
checkpoint: {every: 2h}
compute: {gpu: A100-40GB}
```

## Passes

```yaml
data: {max_games: 2000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 20, batch_size: 4096, precision: bf16}
checkpoint: {every: 10m}
compute: {gpu: A100-40GB}
```

```yaml
training: {steps: 200}
checkpoint: {every: never}
```

## What to do

Set `checkpoint.every` to the time that you can afford to lose, such as `10m`. Writing happens beside the training and
stops it for a moment only. Long runs without any checkpoint are CK101's concern, a cadence beyond the end CK102's,
and one by epochs CK104's unless so much is at risk that it is an error.

## Policy

More than `risk_time` or `risk_cost` is a warning; more than `risk_cost_error` on a long run (`long_run`,
`long_run_steps`) is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import advice
from runctl.units import format_duration, format_usd

SEVERITY: Severity = "warning"
POLICY = ("risk_time", "risk_cost", "risk_cost_error", "long_run", "long_run_steps")


def check(facts: Facts) -> Iterable[Finding]:
    every = facts.need("checkpoint.every")
    risk = facts.need("estimate.at_risk")
    length, time = facts.get("run.length"), facts.get("estimate.time")
    long = length is not None and length.long
    if (every is None and long) or (every is not None and time is not None and risk.seconds[1] >= time.likely):
        return
    seconds, usd = risk.seconds[1], risk.usd[1] if risk.usd else 0.0
    policy = facts.policy
    if seconds <= policy["risk_time"] and usd <= policy["risk_cost"]:
        return
    message = f"{format_duration(seconds)} of work"
    message += f" ({format_usd(usd)})" if usd else ""
    message += f" are at risk between two checkpoints ({risk.words})"
    severity: Severity = "error" if long and usd > policy["risk_cost_error"] else "warning"
    if severity == "warning" and every is not None and every.epochs is not None:
        return
    at = facts.place("checkpoint.every", "run.steps", "training.steps", "training.epochs")
    yield Finding(message, at=at, fix=advice.cadence(facts), severity=severity)
