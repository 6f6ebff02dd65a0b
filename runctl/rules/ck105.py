"""CK105: checkpoints that pile up, or a best one that is swept away

## Why

A trainer that never deletes a checkpoint fills a volume in a night, and the run dies at the one moment when it should
save. The opposite costs as much: with only the last one kept, the best one, for whose sake there is a metric, is gone
an hour after it was reached.

## Fails

```yaml
training: {steps: 1000}
checkpoint: {every: 100 steps, keep_last: 1, keep_best: 0, metric: val/loss}
```

## Passes

```yaml
training: {steps: 1000}
checkpoint: {every: 100 steps, keep_last: 1, keep_best: 1, metric: val/loss}
```

```yaml
training: {steps: 1000}
checkpoint: {every: 100 steps, keep_last: 3, keep_best: 0}
```

## What to do

Keep the best one beside the last (`checkpoint.keep_best: 1`), and say how many last ones are kept
(`checkpoint.keep_last: 3`; HF: `save_total_limit`). How many checkpoints there will be follows from the length of the
run and the cadence, their size from the model: 12 bytes a parameter. Where a number is kept that the disk cannot hold,
ME105 speaks.

## Policy

Checkpoints that are never deleted may take `kept_checkpoints` where the room is not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.rules import me105
from runctl.units import counted, format_bytes

SEVERITY: Severity = "warning"
POLICY = ("kept_checkpoints",)


def check(facts: Facts) -> Iterable[Finding]:
    every = facts.need("checkpoint.every")
    if every is None:
        return
    last = facts.get("checkpoint.keep_last")
    if last == 1 and facts.get("checkpoint.keep_best") == 0 and _chosen(facts):
        message = f"{facts.key('checkpoint.keep_last')} is 1 and no best checkpoint is kept: the best one by "
        message += f"{facts.get('checkpoint.metric')} is deleted when the next one is saved"
        best = facts.key("checkpoint.keep_best")
        yield Finding(message, at=facts.place("checkpoint.keep_best", "checkpoint.keep_last"), fix=f"set {best}: 1")
        return
    if facts.foreign and "checkpoint.keep_last" not in facts.values:
        yield from _all_kept(facts)
    elif last is None:
        facts.need("checkpoint.keep_last")


def _chosen(facts: Facts) -> bool:
    """Whether somebody asked for a best one: the default names a metric as well."""
    source = facts.source("checkpoint.metric")
    return source is not None and source.kind != "default" and facts.get("checkpoint.metric") is not None


def _all_kept(facts: Facts) -> Iterable[Finding]:
    """Nothing limits how many are kept: as many as the run saves."""
    one, count = me105.checkpoint_bytes(facts), me105.saved(facts)
    room = facts.get("host.disk")
    most = room if room is not None else facts.policy["kept_checkpoints"]
    if count >= me105.ENDLESS or count * one <= most:
        return
    have = f"the disk has {format_bytes(room)}" if room is not None else "nothing says how much room there is"
    message = (
        f"nothing limits how many checkpoints are kept: {counted(count, 'checkpoint')} of {format_bytes(one)} take "
    )
    message += f"{format_bytes(count * one)}, and {have}"
    fix = f"keep the last few: {facts.key('checkpoint.keep_last')}"
    yield Finding(message, at="checkpoint.every", fix=fix)
