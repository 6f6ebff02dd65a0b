"""CK108: more time goes into saving than it is worth

## Why

A checkpoint of a large model takes seconds to a minute to write, and most trainers stand still meanwhile. Saved every
few steps it becomes a large part of the bill, and on a network volume of everybody else's.

## Fails

```yaml
data: {max_games: 2000}
model: {d_model: 384, n_layers: 4}
training: {epochs: 1, batch_size: 512, precision: bf16}
checkpoint: {every: 1 step}
compute: {gpu: A100-40GB}
```

## Passes

```yaml
data: {max_games: 2000}
model: {d_model: 384, n_layers: 4}
training: {epochs: 1, batch_size: 512, precision: bf16}
checkpoint: {every: 10m}
compute: {gpu: A100-40GB}
```

## What to do

Save less often: `10m` loses at most ten minutes. runctl's own trainer writes behind the training and stands still only
for the copy, whose measured time is taken where a probe or a run left one; of other trainers it is assumed that they
write 12 bytes a parameter at `write_rate` while the GPU waits.

## Policy

Saving may take the share `saving_share` of the time; a checkpoint is written at `write_rate`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.rules import advice, me105
from runctl.units import format_bytes, format_duration

SEVERITY: Severity = "warning"
POLICY = ("saving_share", "write_rate")


def check(facts: Facts) -> Iterable[Finding]:
    every = facts.need("checkpoint.every")
    if every is None:
        return
    time, steps = facts.need("estimate.time"), facts.need("run.steps")
    step = advice.likely_step(facts)
    if step is None:
        raise NotChecked("how long a step takes is not known")
    if every.seconds is not None:
        interval = every.seconds
    else:
        interval = step * (every.steps or every.epochs * facts.need("run.steps_per_epoch"))
    if interval >= step * steps:
        return  # once, at the end
    if facts.get("task") == "command":
        one = me105.checkpoint_bytes(facts)
        stall = one / facts.policy["write_rate"]
        how = f"{format_bytes(one)} at {facts.policy.show('write_rate')}"
    else:
        saves = max(1.0, step * steps // interval)
        stall = time.parts["checkpoints"][1] / (saves + 1)
        how = time.basis if time.measured else "a guess, not measured"
    share = stall / (stall + interval)
    if share > facts.policy["saving_share"]:
        message = (
            f"a checkpoint takes about {format_duration(stall)} ({how}), and {format_duration(interval)} lie between "
        )
        message += f"two: {share:.0%} of the time goes into saving"
        yield Finding(message, at=facts.place("checkpoint.every", "run.steps"), fix=advice.cadence(facts))
