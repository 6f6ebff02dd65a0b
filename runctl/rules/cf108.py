"""CF108: a key that the code never reads

## Why

An ablation's factor was a key that no line of the trainer read: the run was a copy of its baseline, 1.7 hours of GPU
and a wrong conclusion. A lenient parser says nothing of a key that it does not know.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8}
model:
  width: 512
  init_std: 0.02  # <-- ABLATION: small init
```
```python source
def build(config):
    trainer, model = config["trainer"], config["model"]
    return Net(model["width"]), trainer.max_steps, trainer.get("batch_size", 8)
```

```yaml
trainer: {max_steps: 500, batch_size: 8, keep_best: 3}
```
```python source
def steps(config):
    return config["trainer"]["max_steps"] * config["trainer"]["batch_size"]
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8}
```
```python source
def steps(config):
    return config["trainer"]["max_steps"] * config["trainer"]["batch_size"]
```

## What to do

Make the code read it, or delete it. The key's last word is looked for in all Python code of `--source DIR`, as a name,
an attribute or a quoted word; the code is never run. It is an error where the key is what the run is to test: a
comment marks it, the header announces it, or this config is the only one of its siblings to set it so.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.gathering import comments
from runctl.light import pattern
from runctl.units import counted
from runctl.yamldoc import Path, Position

SEVERITY: Severity = "error"
_FREE = frozenset((
    "env", "environment", "labels", "annotations", "tags", "notes", "description", "metadata", "meta", "kwargs", "args",
    "params", "init_args", "defaults", "hydra", "x",
))  # fmt: skip
_LIBRARIES = ("hf", "axolotl")  # what the dialect knows is read by the library, not by this code
_MARK = pattern(r"<-+|\b(?:ABLATION|ABLATED|FACTOR|THE CHANGE|EXPERIMENT|SWEEP)\b")


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        return  # its keys are known, and CF101 finds the others
    words = facts.need("source.words")
    code = facts.need("source.read")
    keys: dict[Path, Position] = facts.need("config.keys")
    known = set(facts.spelled.values()) if facts.dialect in _LIBRARIES else set()
    free = {path[:-1] for path in keys if str(path[-1]) in ("_target_", "class_path", "_component_")}
    factors: set[str] | None = None
    unread: set[Path] = set()
    for path, position in keys.items():
        last = path[-1]
        dotted = ".".join(map(str, path))
        if not isinstance(last, str) or not last.isidentifier() or last in words or last.startswith("_"):
            continue
        if dotted in known or path[:-1] in free or any(_free(part) for part in path):
            continue
        factors = factors if factors is not None else _factors(facts, keys)
        tested = dotted in factors
        unread.add(path)
        if not tested and any(path[:depth] in unread for depth in range(1, len(path))):
            continue  # its section was told
        source = facts.source("source.words")
        files = counted(code.files, "Python file")
        message = f"{dotted} is read nowhere in the {files} of {source.detail if source else 'the code'}"
        if tested:
            message += ": what this config is to test changes nothing"
        severity: Severity = "error" if tested and code.whole else "warning"
        fix = "read it in the code, or delete it" if code.whole else "read it, or delete it; not all code was looked at"
        yield Finding(message, at=position, fix=fix, severity=severity, key=dotted)


def _free(part: object) -> bool:
    return isinstance(part, str) and (part in _FREE or part.endswith("_kwargs"))


def _factors(facts: Facts, keys: dict[Path, Position]) -> set[str]:
    """The keys that the config is there to test."""
    found = set(facts.get("siblings.factors", ()))
    text = facts.need("config.text")
    announced = {change.key.rpartition(".")[2] for change in comments.changes(facts.get("config.header", ()))}
    lines = text.splitlines() if "#" in text else []
    for path, position in keys.items():
        line = lines[position.line - 1] if position.line <= len(lines) else ""
        if str(path[-1]) in announced or _MARK.search(line.partition(" #")[2]):
            found.add(".".join(map(str, path)))
    return found
