"""ME105: more on the disk than there is room

## Why

Checkpoints that are all kept fill a volume in a night, and the run dies at the one moment when it should save. A
checkpoint takes 12 bytes a parameter: weights and the two moments of AdamW.

## Fails

```yaml
data: {simulate: {games: 4}}
model: {d_model: 16384, n_layers: 1000}
training: {steps: 100}
checkpoint: {every: 10 steps, keep_last: 100000}
```

## Passes

```yaml
data: {simulate: {games: 4}}
training: {steps: 100}
checkpoint: {every: 10 steps, keep_last: 3}
```

## What to do

Lower `checkpoint.keep_last` and `checkpoint.keep_best`, make room, or raise `compute.disk`. Counted are the checkpoints
that are kept, one more that is being written, and the dataset where the run encodes it itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.estimate import time_
from runctl.estimate.time_ import Work
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.units import counted, format_bytes

SEVERITY: Severity = "warning"
BYTES_PER_PARAMETER = 12
ENDLESS = 1 << 62


def check(facts: Facts) -> Iterable[Finding]:
    best = facts.get("checkpoint.keep_best", 0) if facts.foreign else facts.need("checkpoint.keep_best")
    keep = facts.need("checkpoint.keep_last") + best
    room, one = facts.need("host.disk"), checkpoint_bytes(facts)
    count = min(keep, saved(facts)) + 1
    dataset = _dataset(facts)
    need = count * one + dataset
    if need <= room:
        return
    local = facts.get("compute.backend") == "local"
    have = f"{format_bytes(room)} that {'this disk has left' if local else facts.key('compute.disk') + ' asks for'}"
    parts = f"{counted(count, 'checkpoint')} of {format_bytes(one)}"
    parts += f" and a dataset of {format_bytes(dataset)}" if dataset else ""
    room_fix = "make room" if local else f"raise {facts.key('compute.disk')}"
    fix = f"lower {facts.key('checkpoint.keep_last')}, {room_fix} or make the model smaller"
    at = facts.place("checkpoint.keep_last", "checkpoint.every", "compute.disk", "model.d_model")
    yield Finding(f"{parts} take {format_bytes(need)}, more than the {have}", at=at, fix=fix)


def checkpoint_bytes(facts: Facts) -> int:
    """Bytes of one checkpoint: weights and AdamW's two moments, all in fp32. Raises NotChecked."""
    if (adapter := facts.get("training.adapter")) and adapter.lower() != "none":
        raise NotChecked(f"with {facts.key('training.adapter')}: {adapter} only the added weights are saved")
    return BYTES_PER_PARAMETER * int(facts.need("model.parameters"))


def saved(facts: Facts) -> int:
    """How many checkpoints the run saves at most; `ENDLESS` where its length is not known."""
    every, time, steps = facts.get("checkpoint.every"), facts.get("estimate.time"), facts.get("run.steps")
    if every is None:
        return 1
    if steps is None or (every.seconds is not None and time is None):
        return ENDLESS
    work = Work(steps, 1, 1.0, 1, steps_per_epoch=facts.get("run.steps_per_epoch", steps))
    return time_.times(every, work, time.high if time else 0.0) + 1


def _dataset(facts: Facts) -> int:
    """Bytes of the dataset that the run encodes itself."""
    if facts.get("data.simulate") is None or facts.get("data.encoded") is not None:
        return 0
    try:
        return int(facts.need("data.frames") * facts.need("encoding.layout").record_bytes)
    except NotChecked:
        return 0
