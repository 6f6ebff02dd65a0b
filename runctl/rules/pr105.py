"""PR105: the precision is not stated

## Why

A trainer that is told nothing takes its default, and for most that is fp32: a quarter to a sixteenth of what the GPU
can do, at twice the memory. A run of 24.5 hours went that way.

## Fails

```yaml gpu=RTX4090
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001}
```

## Passes

```yaml gpu=RTX4090
trainer: {max_steps: 12000, batch_size: 4, lr: 0.0001, precision: bf16}
```

```yaml gpu=RTX4090
trainer: {max_steps: 200, batch_size: 4, lr: 0.0001}
```

## What to do

State it. Where the trainer's default is known, the adapter says it (`defaults: {training.precision: bf16}`); on a long
run PR101 judges that. Smoke tests may leave it out.

## Policy

A run of at most `smoke_steps` optimizer steps is a smoke test.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.adapters.spec import words
from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.light import pattern
from runctl.rules import advice

SEVERITY: Severity = "warning"
POLICY = ("smoke_steps",)


_WORDS = frozenset(("amp", "bf16", "fp16", "fp8", "float8", "bfloat16", "float16", "half", "precision", "autocast"))
_NAMES = pattern(r"Amp[A-Z]\w*|\w*MixedPrecision\w*|(?:bf|fp|float|bfloat)16(?:-mixed)?")
_PERHAPS = pattern(r"(?i)amp|16|fp8|float8|half|precision|autocast")  # quicker than words
_APART = frozenset(("matmul", "export", "eval", "quantization", "gradient", "decimal"))


def _maybe(facts: Facts) -> str | None:
    """A key that may say it, though no fact takes it: by its name, or by a class or dtype that it names."""
    for one in facts.get("config.scalars", ()):
        named = isinstance(one.value, str) and _NAMES.fullmatch(one.text)
        if not named and not _PERHAPS.search(one.key):
            continue
        inside = frozenset[str]().union(*(words(part) for part in one.key.split(".")))
        if one.value in (None, "") or inside & _APART:
            continue
        if named or inside & _WORDS:
            return str(one.key)
    return None


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.need("gpu.used"):
        return
    source, steps, length = facts.source("training.precision"), facts.get("run.steps"), facts.get("run.length")
    default = source is not None and source.kind == "default" and facts.foreign
    if "training.precision" in facts.values and not default:
        facts.need("training.precision")  # what is there cannot be read: not checked
        return
    if default and (facts.get("training.precision") != "fp32" or (length is not None and length.long)):
        return  # a good default, or PR101's concern
    if steps is not None and steps <= facts.policy["smoke_steps"]:
        return
    if facts.dialect == "generic" and (maybe := _maybe(facts)):
        raise NotChecked(f"{maybe} may say it, in a way that is not known here")
    gpu = facts.get("gpu")
    name = f"a {gpu.name}" if gpu else "a GPU"
    wanted = "bf16" if gpu is None or "bf16" in gpu.peak else "fp16"
    message = f"nothing here says in which precision {name} computes; the default of "
    message += f"{facts.dialect if default else 'most trainers'} is fp32"
    at = facts.place("training.precision", "run.steps", "training.batch_size", "training.epochs", "compute.gpu")
    yield Finding(message, at=at, fix=advice.precision(facts, wanted))
