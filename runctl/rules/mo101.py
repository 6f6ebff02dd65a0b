"""MO101: the context is not a whole number of chunks

## Why

The scan works chunk by chunk. Where the chunk does not divide the window, the last chunk is filled up and computed
for nothing, or the kernels refuse the shape at the first step, on the paid machine.

## Fails

```yaml
model: {context_len: 60, chunk_size: 25}
training: {steps: 100}
```

## Passes

```yaml
model: {context_len: 60, chunk_size: 30}
training: {steps: 100}
```

```yaml
model: {context_len: 10, chunk_size: 64}
training: {steps: 100}
```

## What to do

Choose a `model.chunk_size` that divides `model.context_len`, or one that is as long as the context.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    context, chunk = facts.need("model.context_len"), facts.need("model.chunk_size")
    if context > chunk and context % chunk:
        near = max((size for size in range(1, min(chunk, 4096) + 1) if context % size == 0), default=1)
        message = f"model.context_len is {context}, which is not a multiple of model.chunk_size {chunk}"
        source = facts.source("model.chunk_size")
        at = "model.chunk_size" if source and source.kind == "file" else "model.context_len"
        yield Finding(message, at=at, fix=f"set model.chunk_size: {near if near > 1 else context}")
