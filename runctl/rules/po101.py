"""PO101: a policy that cannot be met

## Why

A policy that names a rule which does not exist, or asks for what no config can say, protects nobody: the rule that was
to be an error never fires, and the team believes that it would.

## Fails

```yaml file=runctl.yaml
policy:
  rules: {CK999: error}
```

```yaml file=runctl.yaml
policy:
  rules: {CF101: off}
```

```yaml file=runctl.yaml
policy:
  require: [training.sede]
```

```yaml file=runctl.yaml
policy:
  require: [{key: training.precision, one_of: [fp64]}]
```

```yaml file=runctl.yaml
policy:
  allowed_gpus: [A100-40GB, B9000]
```

## Passes

```yaml file=runctl.yaml
policy:
  rules: {CK103: error, CF110: off}
  require: [budget, training.seed, {key: compute.backend, one_of: [local, modal]}]
  allowed_gpus: [A100-40GB, L4]
  max_cost_usd: 200
```

## What to do

Correct the name or the value as the message says. `runctl rules` lists the rules, `runctl schema` the keys of a config,
`runctl gpus` the GPUs. A rule that says that a config cannot be read (CF100, CF101), or that judges waivers, can be
raised but not lowered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from runctl.errors import RunctlError, did_you_mean
from runctl.facts import Facts, Finding, Severity
from runctl.team.policy import UNWAIVABLE, VALUES, Policy, Requirement
from runctl.yamldoc import Document, Position

SEVERITY: Severity = "error"
PROJECT = True
_PAIRS = (("risk_cost", "risk_cost_error"), ("probe_cost", "probe_required"), ("budget_free", "budget_required"))


def check(facts: Facts) -> Iterable[Finding]:
    document: Document = facts.need("project.document")
    policy = facts.policy
    yield from _rules(policy, document)
    yield from _requirements(facts, document)
    yield from _lists(policy, document)
    for lower, upper in _PAIRS:
        if policy[upper] < policy[lower]:
            at = _at(document, upper if upper in policy.values else lower)
            message = f"policy.{upper} is {policy.show(upper)}, below policy.{lower}, which is {policy.show(lower)}"
            yield Finding(message, at=at, fix=f"set {upper} to {policy.show(lower)} or more: it is the harder limit")


def _at(document: Document, *keys: str | int) -> Position:
    return document.position(("policy", *keys))


def _rules(policy: Policy, document: Document) -> Iterator[Finding]:
    from runctl import rules  # the rules themselves; this file is one of them

    known = rules.known()
    for rule, severity in policy.rules.items():
        at = _at(document, "rules", rule)
        if rule not in known:
            near = did_you_mean(rule.upper(), list(known)) or "runctl rules lists them"
            yield Finding(f"policy.rules makes '{rule}' {_made(severity)}, but there is no such rule", at=at, fix=near)
        elif rule in UNWAIVABLE and severity != "error":
            message = f"policy.rules makes {rule} {_made(severity)}, but this rule cannot be lowered"
            why = "a config that cannot be read cannot run" if rule.startswith("CF") else "it judges what is allowed"
            yield Finding(message, at=at, fix=f"delete the line: {why}")


def _made(severity: str) -> str:
    return severity if severity == "off" else f"{'an' if severity == 'error' else 'a'} {severity}"


def _requirements(facts: Facts, document: Document) -> Iterator[Finding]:
    policy = facts.policy
    if policy.require and policy.rules.get("PO102") == "off":
        fix = "delete PO102: off, or the requirements"
        yield Finding("policy.require asks for what PO102 would check, but PO102 is off", _at(document, "require"), fix)
    foreign = bool(facts.project and facts.project.adapters)
    for index, one in enumerate(policy.require):
        at = _at(document, "require", index)
        if (impossible := _impossible(one, foreign)) is not None:
            yield Finding(f"policy.require asks for {one.key}, {impossible[0]}", at=at, fix=impossible[1])
        for key, allowed in (("compute.gpu", "allowed_gpus"), ("compute.backend", "allowed_backends")):
            listed = policy[allowed]
            if one.key == key and one.one_of and listed is not None and not set(map(str, one.one_of)) & set(listed):
                message = f"policy.require asks for {key}: {_listed(one.one_of)}, none of which {allowed} has"
                yield Finding(message, at=at, fix=f"let the two agree; {allowed} is {_listed(listed)}")
    for first, second in combinations(range(len(policy.require)), 2):
        a, b = policy.require[first], policy.require[second]
        if a.key == b.key and a.one_of and b.one_of and not (a.paths or b.paths or set(a.one_of) & set(b.one_of)):
            message = f"policy.require asks for {a.key} twice, with no value in common"
            fix = "keep one of the two, or give each its paths"
            yield Finding(message, at=_at(document, "require", second), fix=fix)


def _impossible(one: Requirement, foreign: bool) -> tuple[str, str] | None:
    """Why no config can meet a requirement, and what to do."""
    from runctl.rules.po102 import WORDS, native_keys

    if one.key in WORDS:
        return ("a word for several keys, with one_of", "name the key itself") if one.one_of else None
    keys = native_keys()
    if one.key in keys:
        bad = [value for value in one.one_of if not _can_be(one.key, value)]
        return (f"which can never be {_listed(bad)}", "give values that a config can have") if bad else None
    from runctl.adapters.vocabulary import WORDS as FOREIGN  # what adapters may read of other trainers' configs

    if one.key in FOREIGN:
        return None
    near = did_you_mean(one.key, [*WORDS, *keys])
    if near or not foreign:  # a key of another trainer's configs is not known here
        return "which no config has", near or f"known words: {', '.join(WORDS)}; runctl schema lists the keys"
    return None


def _can_be(key: str, value: Any) -> bool:
    """Whether a config may have this value."""
    from runctl import config as configs
    from runctl import tasks
    from runctl.errors import ConfigError

    if key == "task":  # which one it is asks for other sections too
        return value in tasks.names()

    data: Any = value
    for part in reversed(key.split(".")):
        data = {part: data}
    try:
        configs.validate(Document("policy", "", data))
    except ConfigError as error:
        return not any(problem.message.startswith((f"{key}:", f"'{key}'")) for problem in error.problems)
    return True


def _lists(policy: Policy, document: Document) -> Iterator[Finding]:
    from runctl import backends, hardware  # only where a policy has such a list

    for index, name in enumerate(policy["allowed_gpus"] or ()):
        try:
            hardware.parse(name)
        except RunctlError as error:
            message = f"policy.allowed_gpus names a GPU that is not in the catalogue: {error.message}"
            yield Finding(message, at=_at(document, "allowed_gpus", index), fix=error.hint or "runctl gpus lists them")
    for index, name in enumerate(policy["allowed_backends"] or ()):
        try:
            backends.check(name)
        except RunctlError as error:
            if type(error).__name__ == "UsageError":
                message = f"policy.allowed_backends: {error.message}"
                at = _at(document, "allowed_backends", index)
                yield Finding(message, at=at, fix=error.hint or "correct the name")
    for name in VALUES:
        if name in ("allowed_gpus", "allowed_backends") and policy[name] == ():
            message = f"policy.{name} is empty: no run is allowed anywhere"
            yield Finding(message, at=_at(document, name), fix="name some, or delete the line")


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
