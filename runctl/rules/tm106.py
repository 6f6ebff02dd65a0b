"""TM106: hours that cannot be

## Why

"39 tokens a second, so 50,000 steps are about 73 hours, GO": the same numbers make 61 days. Arithmetic belongs to a
machine.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 1024, n_layers: 12}
training: {epochs: 20, batch_size: 512, precision: bf16}
compute: {gpu: A100-80GB}
budget: {max_hours: 1}
```

## Passes

```yaml
data: {max_games: 2000}
model: {d_model: 384, n_layers: 4}
training: {epochs: 2, batch_size: 4096, precision: bf16}
compute: {gpu: A100-80GB}
budget: {max_hours: 6}
```

## What to do

Shorten the run or raise `budget.max_hours`: it is enforced, and ends the run. It is an error where even the low end
of the estimate is longer, which no loader and no kernel can mend, and a warning where the likely time is. Of another
trainer the same holds for the time after which it ends itself (`max_hours`, an adapter's `training.time_limit`): a
schedule that was made for more steps never comes to its end.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.units import format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    if facts.foreign and facts.get("training.time_limit") is not None and facts.get("budget.max_hours") is None:
        yield from _ended(facts)
        return
    hours = facts.need("budget.max_hours")
    if hours is None:
        return
    time = facts.need("estimate.time")
    if time.likely <= hours * 3600:
        return
    low, likely, high = (format_duration(value) for value in (time.low, time.likely, time.high))
    impossible = time.low > hours * 3600
    said = f"takes at least {low}, likely {likely}" if impossible else f"likely takes {likely} ({low} to {high})"
    message = f"{facts.key('budget.max_hours')} is {hours:g}, but the run {said} ({time.basis})"
    severity: Severity = "error" if impossible else "warning"
    yield Finding(
        message,
        at="budget.max_hours",
        fix=f"shorten the run, or set {facts.key('budget.max_hours')} above {time.high / 3600:.3g}",
        severity=severity,
    )


def _ended(facts: Facts) -> Iterable[Finding]:
    """A trainer that ends by itself before the steps that its schedule is made for."""
    facts.need("estimate.time")
    whole, ends, key = (
        facts.get("estimate.whole_time"),
        facts.get("training.time_limit"),
        facts.key("training.time_limit"),
    )
    steps, source = facts.get("run.steps"), facts.source("run.steps")
    if whole is None or whole.likely <= ends or source is None or source.position is None:
        return
    low, likely, high = (format_duration(value) for value in (whole.low, whole.likely, whole.high))
    sure = whole.low > ends
    said = f"take at least {low}" if sure else f"likely take {likely} ({low} to {high})"
    message = f"{key} ends the run after {format_duration(ends)}, but its {steps:,} steps {said} ({whole.basis})"
    fix = f"shorten {facts.key('run.steps')}, so that the schedule ends with the run, or raise {key}"
    yield Finding(message, at="training.time_limit", fix=fix, severity="error" if sure else "warning")
