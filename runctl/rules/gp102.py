"""GP102: more than the provider takes

## Why

A provider's client accepts what its server refuses: fifty retries, a timeout of five seconds and a second machine all
pass on the laptop and fail when the launch is made, late and with somebody else's words. What a provider is known to
refuse is said here, with the limit.

## Fails

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h, retries: 50}
```

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 5s}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h, retries: 3}
```

## What to do

Stay within the limits of `data/hardware.yaml`. A run that is longer than one attempt may be is TM103.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.facts import Facts, Finding, Severity
from runctl.units import format_duration

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    backend = facts.need("compute.backend")
    provider = hardware.catalogue().providers.get(backend)
    if provider is None or provider.limits is None:
        return
    limits = provider.limits
    retries, timeout = facts.get("compute.retries"), facts.get("compute.timeout")
    nodes, name = facts.get("compute.nodes"), facts.get("name")
    if retries is not None and retries > limits.retries:
        message = f"{facts.says('compute.retries')}, but {backend} takes at most {limits.retries} ({limits.source})"
        fix = f"set {facts.key('compute.retries')}: {limits.retries}"
        yield Finding(message, at="compute.retries", fix=fix)
    if timeout is not None and timeout < limits.least_timeout:
        least = format_duration(limits.least_timeout)
        message = f"{facts.key('compute.timeout')} is {format_duration(timeout)}, but {backend} takes at least {least}"
        message += f" ({limits.source})"
        yield Finding(message, at="compute.timeout", fix=f"set {facts.key('compute.timeout')} to what the run needs")
    if nodes is not None and limits.nodes is not None and nodes > limits.nodes:
        message = f"{facts.says('compute.nodes')}, but a run at {backend} is on {limits.nodes} machine:"
        message += " one supervisor and one checkpoint folder lead it"
        yield Finding(message, at="compute.nodes", fix="ask for more GPUs on one machine: NAME:COUNT")
    if name is not None and limits.name is not None and len(name) > limits.name:
        message = f"the name has {len(name)} characters, but {backend} takes at most {limits.name} ({limits.source})"
        yield Finding(message, at="name", fix=f"shorten name to {limits.name} characters")
