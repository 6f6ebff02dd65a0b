"""PO102: what the project requires, and the config does not say

## Why

Some things a team wants to see in every config, whatever the rules make of it: a seed, so that a run can be repeated; a
budget, so that a mistake stays cheap; the card in which the run was agreed upon. What is only asked for in reviews is
forgotten in the evening before a deadline.

## Fails

```yaml
training: {steps: 200, batch_size: 64}
```

```yaml project
policy:
  require: [training.seed]
```

```yaml
training: {steps: 200, batch_size: 64, precision: fp32}
```

```yaml project
policy:
  require: [{key: training.precision, one_of: [bf16], message: the paper's runs are all bf16}]
```

## Passes

```yaml
training: {steps: 200, batch_size: 64, seed: 1}
budget: {max_hours: 1}
```

```yaml project
policy:
  require: [training.seed, budget, {key: card, when: paid}]
```

## What to do

Write the key. `policy.require` in `runctl.yaml` lists dotted keys, or one of these words: `budget`, `seed`,
`checkpoint`, `tracking`, `timeout`, `name`. An entry may also be a mapping: `key`, `message` (why), `one_of` (the
values that are allowed), `when` (`always`, `paid` or `long` runs) and `paths` (globs). A dotted key must be written in
the config, and not be null; a default is not enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.team import globs
from runctl.team.policy import Requirement

SEVERITY: Severity = "error"

# Each word, and the facts of which one must say something; a default counts, if it is one that does something.
WORDS: dict[str, tuple[str, ...]] = {
    "budget": ("budget.max_cost_usd", "budget.max_hours"),
    "seed": ("training.seed",),
    "checkpoint": ("checkpoint.every",),
    "tracking": ("tracking.wandb", "tracking.project"),
    "timeout": ("compute.timeout",),
    "name": ("name", "run.name"),
}
_NOTHING = (None, False, "", "disabled", "none", "never", ())


def check(facts: Facts) -> Iterable[Finding]:
    missing = []
    unknown: list[str] = []
    for one in facts.policy.require:
        try:
            if _concerns(one, facts) and (found := _finding(one, facts)):
                missing.append(found)
        except NotChecked as why:
            unknown.append(str(why))
    if unknown and not missing:
        raise NotChecked(unknown[0])
    return missing


def _concerns(one: Requirement, facts: Facts) -> bool:
    if one.paths:
        from runctl.team.baseline import relative

        path = relative(facts.path, facts.project.root if facts.project else None)
        if not any(globs.fits(path, glob) for glob in one.paths):
            return False
    if one.when == "long":
        return bool(facts.need("run.length").long)
    if one.when == "paid":
        price = facts.get("compute.price")
        return bool(price.usd) if price is not None else facts.get("compute.backend", "local") != "local"
    return True


def _finding(one: Requirement, facts: Facts) -> Finding | None:
    if one.key in WORDS:
        return None if _said(one.key, facts) else _missing(one, facts, WORDS[one.key][0])
    if not facts.foreign and one.key not in native_keys():
        return None  # a key of another trainer's configs; PO101 knows whether there are any
    key = facts.key(one.key)
    written, value = _written(key, facts)
    if not written or value is None:
        return _missing(one, facts, one.key)
    if one.one_of and not any(_same(value, wanted) for wanted in one.one_of):
        wanted = " or ".join(map(str, one.one_of))
        message = f"{key} is {_plain(value)}; the project requires {wanted}{_because(one)}"
        fix = f"set {key}: {one.one_of[0]}"
        return Finding(message, at=one.key if facts.source(one.key) else None, fix=fix, key=key)
    return None


def _said(word: str, facts: Facts) -> bool:
    names = WORDS[word]
    if word == "tracking":  # whatever the tracker is
        names += tuple(name for name in facts.values if name.startswith("tracking."))
    if all(facts.source(name) is None for name in names) and facts.foreign:
        known = [name for name in names if name in facts.spelled]
        if not known and word != "budget":
            raise NotChecked(f"the adapter {facts.dialect} has no key for {names[0]}")
    if any(facts.source(name) is not None for name in names):
        return any(facts.get(name) not in _NOTHING for name in names)
    if facts.otherwise:
        raise NotChecked(facts.otherwise)
    return False


def _written(key: str, facts: Facts) -> tuple[bool, Any]:
    """Whether the config, or the command line, says something under a key; and what, where it is a single value."""
    for one in facts.need("config.scalars"):
        if one.key == key:
            return True, one.value
        if one.key.startswith(f"{key}."):
            return True, ""
    return False, None


def _missing(one: Requirement, facts: Facts, name: str) -> Finding:
    key = facts.key(name)
    word = f"{one.key} ({key})" if one.key in WORDS and key != one.key else key
    at = facts.place(name, "training.steps", "training.epochs", "training.batch_size", "task")
    message = f"the project requires {word}, and the config does not say it{_because(one)}"
    return Finding(message, at=at, fix=f"add {key}", key=key)


def _because(one: Requirement) -> str:
    return f": {one.message}" if one.message else ""


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, str) or isinstance(wanted, str):
        return str(value).lower() == str(wanted).lower()
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def native_keys() -> tuple[str, ...]:
    """Every dotted key of runctl's own configs, sections among them."""
    from runctl.config.declares import Declares
    from runctl.config.load import _fields_at, _model_of  # the walk over the config's model is written there
    from runctl.config.model import RunConfig, Section

    def _is_section(model: Any) -> bool:
        return issubclass(model, Section | Declares)

    found: list[str] = []
    open_paths: list[tuple[str, ...]] = [()]
    while open_paths:
        path = open_paths.pop()
        model: Any = RunConfig
        for part in path:
            model = _model_of(model.model_fields[part].annotation) or model
        for name in _fields_at(path):
            here = (*path, name)
            found.append(".".join(here))
            inner = _model_of(model.model_fields[name].annotation)
            if inner is not None and _is_section(inner):
                open_paths.append(here)
    return tuple(found)
