"""EN105: a combination that is known to go wrong

## Why

Two settings that are each right can be wrong together. DistributedDataParallel with re-entrant activation
checkpointing crashed after 160 seconds and cost days; torch.compile with activation checkpointing gave NaN from the
first step and cost hours. Both had been seen by others before.

## Fails

```yaml
training_args: {torch_compile: true, gradient_checkpointing: true, per_device_train_batch_size: 4, max_steps: 100}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.compile: training_args.torch_compile
      training.activation_checkpointing: training_args.gradient_checkpointing
      training.batch_size: training_args.per_device_train_batch_size
      training.steps: training_args.max_steps
```

```yaml gpu=A100-80GB:2
train: {batch: 2, steps: 50000, recompute: true}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.activation_checkpointing: train.recompute
      training.batch_size: train.batch
      training.steps: train.steps
```

## Passes

```yaml gpu=A100-80GB:2
train: {batch: 2, steps: 50000, recompute: true, reentrant: false}
```

```yaml project
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.activation_checkpointing: train.recompute
      training.reentrant: train.reentrant
      training.batch_size: train.batch
      training.steps: train.steps
```

## What to do

Do what the finding says; the list with its sources is `data/known_bad.yaml`. It is an error only where the
combination cannot work and the dialect is known; a warning says that it went wrong for others, and that a few real
steps should come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from runctl import shipped
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.light import dataclass

SEVERITY: Severity = "warning"


@dataclass(frozen=True)
class Known:
    """One combination of `data/known_bad.yaml`."""

    id: str
    when: Mapping[str, Any]
    severity: Severity
    says: str
    fix: str
    sources: tuple[str, ...]


def check(facts: Facts) -> Iterable[Finding]:
    known_facts = False
    for entry in table():
        settings = [name for name in entry.when if name.startswith("training.")]
        known_facts = known_facts or any(name in facts.values for name in settings)
        if all(holds(_value(facts, name), wanted) for name, wanted in entry.when.items()):
            said = [facts.says(name) for name in settings if facts.get(name) is not None]
            if "gpu.count" in entry.when or "gpu.capability" in entry.when:
                said.append(f"{facts.key('compute.gpu')} is {facts.get('compute.gpu')}")
            message = f"{', '.join(said)}: {entry.says} ({'; '.join(entry.sources)})"
            severity: Severity = "warning" if facts.dialect == "generic" else entry.severity
            yield Finding(message, at=facts.place(*settings), fix=entry.fix, severity=severity)
    if not known_facts:
        nothing = "the config says nothing of compilation, activation checkpointing or attention kernels"
        raise NotChecked(facts.otherwise or nothing)


def holds(value: Any, wanted: Any) -> bool:
    """Whether a fact (None: unknown) is as an entry wants it."""
    if isinstance(wanted, dict) and "unless" in wanted:
        other = wanted["unless"]
        text = value.lower() if isinstance(value, str) else value
        return text not in other if isinstance(other, list) else text is not other
    if value is None:
        return False
    if isinstance(wanted, dict):
        return bool(value > wanted["above"] if "above" in wanted else value < wanted["below"])
    return bool(value == wanted)


def _value(facts: Facts, name: str) -> Any:
    if name == "dialect":
        return facts.dialect
    if name == "gpu.capability":
        gpu = facts.get("gpu")
        digits = gpu.capability.replace(".", "") if gpu else ""
        return float(gpu.capability) if digits.isdecimal() else None
    return facts.get(name)


@cache
def table() -> tuple[Known, ...]:
    """The combinations, in order."""
    return tuple(
        Known(raw["id"], raw["when"], raw["severity"], raw["says"], raw["fix"], tuple(raw["sources"]))
        for raw in shipped.load("known_bad.yaml")
    )
