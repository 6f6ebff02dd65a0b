"""GP104: a GPU that may be swapped for another

## Why

Whoever compares times or loss curves between runs must have had the same device. At Modal a plain `A100` may be the one
with 80 GiB and a plain `H100` an H200, free of charge: faster than the run that it is compared with.

## Fails

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: H100, cpu: 4, timeout: 1h}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: H100!, cpu: 4, timeout: 1h}
```

## What to do

Where times are compared, ask for the exact GPU: `A100-40GB`, `A100-80GB` or `H100!`. Memory is estimated for the
smaller one in any case.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl import hardware
from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "note"
EXACT = {"A100": "A100-40GB or A100-80GB", "H100": "H100!", "B200+": "B200"}


def check(facts: Facts) -> Iterable[Finding]:
    asked, backend = facts.need("compute.gpu"), facts.need("compute.backend")
    provider = hardware.catalogue().providers.get(backend)
    if asked is None or provider is None:
        return
    for one in asked.split(",") if facts.get("gpu") else ():
        name = hardware.split(one.strip())[0].strip()
        if other := provider.swaps.get(name.upper()):
            exact = EXACT.get(name.upper(), other)
            message = f"compute.gpu is {name}: {backend} may give a {other} for it, so times may not compare"
            yield Finding(message, at="compute.gpu", fix=f"ask for {exact} where times are compared")
