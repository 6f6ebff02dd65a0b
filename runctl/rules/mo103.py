"""MO103: widths that miss the tensor cores

## Why

Half-precision products run on the tensor cores in tiles of 8, best of 64. A width between them is padded, or takes a
slower kernel: a vocabulary of 50,257 made to 50,304 is the best-known case, and cost nothing.

## Fails

```yaml
model: {d_model: 260, headdim: 52}
training: {steps: 100, precision: bf16}
compute: {gpu: A100-80GB}
```

## Passes

```yaml
model: {d_model: 256}
training: {steps: 100, precision: bf16}
compute: {gpu: A100-80GB}
```

## What to do

Round widths up to a multiple of 64, at least of 8, before the first run: afterwards it is another model.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity

SEVERITY: Severity = "note"
TILE = 8
_HALF = ("bf16", "fp16", "fp8")
_WIDTHS = ("model.d_model", "declares.d_model", "declares.d_ff", "declares.vocab_size")


def check(facts: Facts) -> Iterable[Finding]:
    if facts.need("training.precision" if facts.get("training.precision") else "model.precision") not in _HALF:
        return
    facts.need("gpu")
    widths = {name: width for name in _WIDTHS if (width := facts.get(name))}
    if not widths:
        raise NotChecked("the config says nothing of the model's widths")
    for name, width in widths.items():
        if width % TILE:
            better = -(-width // 64) * 64
            what = name.rpartition(".")[2]
            key = facts.key(name)
            said = f"{key} is {width}" if key.endswith(what) or not facts.foreign else f"{what} is {width} by {key}"
            message = f"{said}, no multiple of {TILE}: half-precision products leave the fast path"
            derived = what == "vocab_size" and "vocab" not in key  # by the tokenizer's name
            fix = f"round it up to {better} when the model is built" if derived else f"set {key}: {better}"
            yield Finding(message, at=name, fix=fix)
