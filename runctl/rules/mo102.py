"""MO102: the inner width does not divide into heads

## Why

Mamba-2 splits `expand·d_model` channels into heads of `headdim`; a width that does not divide cannot be built. A
shape that cannot be built crashed at start-up on a GPU that was already paid for.

## Fails

```yaml
model: {d_model: 300, expand: 2, headdim: 64}
training: {steps: 100}
```

## Passes

```yaml
model: {d_model: 384, expand: 2, headdim: 64}
training: {steps: 100}
```

## What to do

Choose a `d_model` so that `expand·d_model` is a multiple of `headdim`, or another `headdim`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    width, expand, headdim = facts.need("model.d_model"), facts.need("model.expand"), facts.need("model.headdim")
    inner = expand * width
    if inner % headdim:
        sizes = f"model.expand {expand} × model.d_model {width} is {inner}"
        message = f"{sizes}, which is not a multiple of model.headdim {headdim}"
        near = max(1, round(inner / headdim)) * headdim
        fix = f"set model.d_model: {near // expand}" if near % expand == 0 else f"choose a headdim that divides {inner}"
        yield Finding(message, at="model.d_model", fix=fix)
