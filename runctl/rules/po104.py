"""PO104: a GPU or a place that the project does not use

## Why

Where a team has a contract, a quota or a rule on where data may go, a config that names another place costs the list
price, or waits for a GPU that the quota does not have.

## Fails

```yaml
training: {steps: 200}
compute: {gpu: H100}
```

```yaml project
policy: {allowed_gpus: [L4, A100-40GB]}
```

## Passes

```yaml
training: {steps: 200}
compute: {gpu: L4}
```

```yaml project
policy: {allowed_gpus: [L4, A100-40GB]}
```

## What to do

Take one of the project's, or add yours to the list in `runctl.yaml`.

## Policy

`allowed_gpus` names GPUs of the catalogue, `allowed_backends` the places where runs execute; without them any will do.
A run on a CPU needs no GPU of the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from runctl import hardware
from runctl.errors import RunctlError
from runctl.facts import Facts, Finding, NotChecked, Severity

SEVERITY: Severity = "error"
POLICY = ("allowed_gpus", "allowed_backends")


def check(facts: Facts) -> Iterable[Finding]:
    gpus, places = facts.policy["allowed_gpus"], facts.policy["allowed_backends"]
    backend = facts.get("compute.backend")
    if places is not None and backend is not None and backend not in places:
        key = facts.key("compute.backend")
        message = f"{key} is {backend}; the project's runs are on {' or '.join(places)}"
        yield Finding(message, at=facts.place("compute.backend", "compute.gpu"), fix=f"set {key}: {_first(places)}")
    if gpus is None or not facts.get("gpu.used", False):
        return
    gpu = facts.get("gpu")
    if gpu is None:
        raise NotChecked(facts.why("gpu"))
    others = [one.name for one, _ in facts.get("gpu.choices", ()) if one.name not in _names(gpus)]
    if others:
        key = facts.key("compute.gpu")
        message = f"{key} is {', '.join(others)}; the project's runs are on {' or '.join(gpus)}"
        yield Finding(message, at="compute.gpu", fix=f"set {key}: {_first(gpus)}")


def _first(names: tuple[str, ...]) -> str:
    return names[0] if names else "…"


@lru_cache(maxsize=8)
def _names(listed: tuple[str, ...]) -> frozenset[str]:
    """The catalogue's names of those listed; what it does not know, PO101 says."""
    found = set()
    for name in listed:
        try:
            found.add(hardware.parse(name)[0].name)
        except RunctlError:
            continue
    return frozenset(found)
