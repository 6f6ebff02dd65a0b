"""MO102: the width does not divide into heads

## Why

Mamba-2 splits `expand·d_model` channels into heads of `headdim`, and a transformer its width into as many parts as it
has heads; a width that does not divide cannot be built. A shape that cannot be built crashed at start-up on a GPU that
was already paid for.

## Fails

```yaml
model: {d_model: 300, expand: 2, headdim: 64}
training: {steps: 100}
```

```yaml
model: {d_model: 500, n_layers: 8, n_heads: 12}
trainer: {max_steps: 2000, batch_size: 8, lr: 0.0003}
```

## Passes

```yaml
model: {d_model: 384, expand: 2, headdim: 64}
training: {steps: 100}
```

```yaml
model: {d_model: 500, n_layers: 8, n_heads: 12, head_dim: 64}
trainer: {max_steps: 2000, batch_size: 8, lr: 0.0003}
```

## What to do

Choose a `d_model` so that `expand·d_model` is a multiple of `headdim`, or another `headdim`. Of another
trainer's config it is an error where width and heads stand in one section and no width of a head is given.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.adapters.spec import normal
from runctl.facts import Facts, Finding, NotChecked, Severity

SEVERITY: Severity = "error"
_WIDTHS = frozenset(("d_model", "hidden_size", "n_embd", "embed_dim", "model_dim", "hidden_dim"))
_OF_A_HEAD = frozenset(("head_dim", "dim_head", "d_head", "head_size", "kv_channels", "headdim", "d_k", "head_width"))


def check(facts: Facts) -> Iterable[Finding]:
    if facts.foreign:
        yield from _of_another(facts)
        return
    width, expand, headdim = facts.need("model.d_model"), facts.need("model.expand"), facts.need("model.headdim")
    inner = expand * width
    if inner % headdim:
        sizes = f"model.expand {expand} × model.d_model {width} is {inner}"
        message = f"{sizes}, which is not a multiple of model.headdim {headdim}"
        near = max(1, round(inner / headdim)) * headdim
        fix = f"set model.d_model: {near // expand}" if near % expand == 0 else f"choose a headdim that divides {inner}"
        yield Finding(message, at="model.d_model", fix=fix)


def _of_another(facts: Facts) -> Iterable[Finding]:
    """A transformer whose width is no multiple of its heads."""
    width, heads = facts.get("declares.d_model"), facts.get("declares.n_heads")
    if not width or not heads:
        raise NotChecked("the config says nothing of the model's widths")
    if width % heads == 0:
        return
    wide, split = facts.key("declares.d_model"), facts.key("declares.n_heads")
    section, _, last = wide.rpartition(".")
    if section != split.rpartition(".")[0] or normal(last) not in _WIDTHS:
        raise NotChecked(f"{split} does not divide {wide}, but the two may be of different parts of the model")
    for path in facts.get("config.keys", {}):
        if normal(str(path[-1])) in _OF_A_HEAD:
            return  # it says how wide a head is
    message = f"{wide} is {width}, which {split} {heads} does not divide: no such model can be built"
    near = max(1, round(width / heads)) * heads
    yield Finding(message, at="declares.d_model", fix=f"set {wide}: {near}")
