"""DA109: made-up data take the place of data that cannot be read

## Why

A loader that failed fell back to random tokens, in every production command and without a word. The loss fell below
what random tokens allow, which was taken for convergence; weeks went into a model that had seen nothing.

## Fails

```yaml gpu=A100-80GB
data: {path: "shards/*.tar", fallback: synthetic}
trainer: {max_steps: 20000, batch_size: 8, lr: 0.0003, precision: bf16, save_steps: 1000, eval_every: 500}
```

## Passes

```yaml gpu=A100-80GB
data: {path: "shards/*.tar", fallback: none}
trainer: {max_steps: 20000, batch_size: 8, lr: 0.0003, precision: bf16, save_steps: 1000, eval_every: 500}
```

## What to do

Let the run fail where its data cannot be read. Where made-up data are meant, say so as the source of the data, not as
what happens on failure. On your own CPU, and in a smoke test, it is a warning.

## Policy

A run of at most `smoke_steps` optimizer steps is a smoke test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from runctl.facts import Facts, Finding, Severity
from runctl.light import pattern

SEVERITY: Severity = "error"
POLICY = ("smoke_steps",)
_MADE_UP = ("synthetic", "random", "dummy", "fake", "simulated", "generated")
_ON_FAILURE = pattern(r"fall_?back|on_(?:error|fail|missing)|if_(?:missing|unavailable)", re.IGNORECASE)
_NOT_DATA = ("seed", "init", "augment", "crop", "flip")


def check(facts: Facts) -> Iterable[Finding]:
    for one in facts.need("config.scalars"):
        if not _on_failure(one.key):
            continue
        key = one.key.lower()
        made_up = [
            word for word in _MADE_UP if word in key or (isinstance(one.value, str) and word in one.value.lower())
        ]
        switched = isinstance(one.value, str) and one.value.lower() not in ("none", "false", "off", "no", "")
        if not made_up or not (one.value is True or switched) or any(word in key for word in _NOT_DATA):
            continue
        steps = facts.get("run.steps")
        smoke = steps is not None and steps <= facts.policy["smoke_steps"]
        free = facts.get("compute.backend") == "local" or facts.get("gpu.used") is False
        message = (
            f"{one.key} is {str(one.value).lower()}: {made_up[0]} data will take the place of data that cannot be read"
        )
        fix = f"let it fail: {one.key}: {'false' if one.value is True else 'none'}"
        yield Finding(message, at=one.position or one.key, fix=fix, severity="warning" if smoke or free else "error")


@lru_cache(maxsize=4096)
def _on_failure(key: str) -> bool:
    """Whether a key says what happens if something goes wrong; the configs of one call have the same keys."""
    return bool(_ON_FAILURE.search(key))
