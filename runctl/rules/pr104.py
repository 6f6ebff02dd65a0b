"""PR104: two settings of the precision that disagree

## Why

`precision: bf16` beside `fp16: true`: one of them counts, and which one is a matter of the order in which somebody's
code looks. A base config that sets one spelling and an overlay that sets another make such pairs.

## Fails

```yaml
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, precision: bf16, fp16: true}
```

## Passes

```yaml
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, bf16: true, fp16: false}
```

```yaml
model: {torch_dtype: float32}
trainer: {max_steps: 5000, batch_size: 8, lr: 0.0003, bf16: true}
```

## What to do

Keep one of them. Weights in fp32 under bf16 arithmetic are no contradiction, and neither is a `dtype` of another
section, which may be about another model. Else it is a warning in different sections of a config.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    places = facts.get("training.precisions", ())
    if len(places) < 2:
        return
    first, wanted = places[0]
    for key, value in places[1:]:
        weights = _of_weights(key) or _of_weights(first)
        beside = key.rpartition(".")[0] == first.rpartition(".")[0]
        if value == wanted or (weights and ("fp32" in (value, wanted) or not beside)):
            continue
        together = beside and not weights
        message = f"{first} means {wanted}, but {key} means {value}"
        severity: Severity = "error" if together else "warning"
        at = "training.precision" if facts.source("training.precision") else None
        yield Finding(message, at=at, fix=f"keep one of {first} and {key}", severity=severity)
        return


def _of_weights(key: str) -> bool:
    """Whether a key may be about how weights are stored, not about the arithmetic."""
    return key.rpartition(".")[2].lower().endswith("dtype")
