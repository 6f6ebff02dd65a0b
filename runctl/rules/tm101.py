"""TM101: the timeout ends the run before it is done

## Why

Three runs in a row hit a two-hour timeout in the middle of an epoch, then a four-hour one: each attempt was
paid in full and had to be done again.

## Fails

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 512, precision: bf16}
compute: {gpu: A100-40GB, timeout: 30m}
```

## Passes

```yaml
data: {max_games: 22000}
model: {d_model: 512, n_layers: 6}
training: {epochs: 2, batch_size: 512, precision: bf16}
compute: {gpu: A100-40GB, timeout: 24h}
```

```yaml
training: {steps: 100}
```

## What to do

Raise `compute.timeout` above the estimate's high end, or shorten the run. At a provider that tries again
(`compute.retries`), the attempts count together where there are checkpoints to go on from. A timeout below the likely
time is an error; the range is shown beside it, because without a measurement it is wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from runctl import hardware
from runctl.facts import Edit, Facts, Finding, Severity
from runctl.units import format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    timeout = facts.need("compute.timeout")
    if timeout is None:
        return
    time = facts.need("estimate.time")
    if allowed(facts, timeout) < time.likely:
        low, likely, high = (format_duration(value) for value in (time.low, time.likely, time.high))
        given, key = said(facts, timeout), facts.key("compute.timeout")
        message = f"{key} is {given}, but the run likely takes {likely} ({low} to {high}, {time.basis})"
        fix = f"{longer(facts, time.high)}, or shorten the run"
        yield Finding(message, at="compute.timeout", fix=fix, edit=room(facts, time.high))


def allowed(facts: Facts, timeout: float) -> float:
    """Seconds that the run has: one attempt, and all together where a timed out one is followed by the next, which
    goes on from a checkpoint."""
    return timeout * _attempts(facts)


def said(facts: Facts, timeout: float) -> str:
    attempts = _attempts(facts)
    return format_duration(timeout) + (f" for each of {attempts} attempts" if attempts > 1 else "")


def _attempts(facts: Facts) -> int:
    """A provider with a limit tries again after a timeout; runctl on one's own machine does not."""
    provider = hardware.catalogue().providers.get(facts.get("compute.backend", ""))
    if provider is None or provider.limits is None or facts.get("checkpoint.every") is None:
        return 1
    return 1 + int(facts.get("compute.retries") or 0)


def longer(facts: Facts, seconds: float) -> str:
    """How a run gets so much time: one attempt, or several where the provider ends each."""
    key, retries = facts.key("compute.timeout"), facts.key("compute.retries")
    provider = hardware.catalogue().providers.get(facts.get("compute.backend", ""))
    if provider is None or provider.limits is None or seconds <= (most := provider.limits.timeout):
        return f"set {key} above {format_duration(seconds)}"
    needed = math.ceil(seconds / most) - 1
    if needed > provider.limits.retries or facts.get("checkpoint.every") is None:
        return f"{format_duration(seconds)} is more than the attempts of {provider.name} hold"
    return f"set {key} to {format_duration(most)} and {retries} to {needed}"


def room(facts: Facts, seconds: float) -> Edit | None:
    """A timeout with a tenth to spare; none of more than a week, none where the provider's own limit is in the way,
    nor in another trainer's unit."""
    minutes = math.ceil(seconds * 1.1 / 60)
    value = f"{minutes}m" if minutes < 120 else f"{math.ceil(minutes / 60)}h"
    provider = hardware.catalogue().providers.get(facts.get("compute.backend", ""))
    most = provider.limits.timeout / 60 if provider and provider.limits else 7 * 24 * 60
    return None if facts.foreign or minutes > most else Edit("compute.timeout", value, safe=False)
