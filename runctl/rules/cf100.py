"""CF100: a value that cannot be

## Why

A value of the wrong kind or outside its range is a run that dies on the paid machine, after the container has
started and the data has loaded; a batch size of 0 or `epochs: two` can be seen before.

## Fails

```yaml
training: {batch_size: 0, steps: 100}
```

## Passes

```yaml
training: {batch_size: 512, steps: 100}
```

## What to do

Write a value that the message accepts. `runctl schema` prints every key with its type and range; durations
are written as `90s`, `5m` or `24h`, sizes as `512MiB` or `64GiB`.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.config.load import UNQUOTED
from runctl.facts import Edit, Facts, Finding, Severity
from runctl.light import pattern, replace
from runctl.rules.cf101 import problems
from runctl.rules.cf102 import is_placeholder

SEVERITY: Severity = "error"
NATIVE = True
_MUST = pattern(r": must be (.+), not ")


def check(facts: Facts) -> Iterable[Finding]:
    found = list(problems(facts, "CF100"))
    if not found:
        return
    written = facts.need("config.scalars")
    placeholders = {one.position.line for one in written if one.position and is_placeholder(one.key, one.text)}
    keys = {one.key: one for one in written if one.quoted}
    for finding in found:
        key, quoted = finding.message.partition(":")[0], (finding.fix or "").partition(UNQUOTED)[2]
        if quoted and key in keys:
            finding = replace(finding, edit=Edit(key, quoted))
        if getattr(finding.at, "line", None) not in placeholders:  # CF102 says it better
            yield finding if finding.fix else replace(finding, fix=_fix(finding.message))


def _fix(message: str) -> str:
    """`write a number greater than 0`, after what the message says of it."""
    if message.endswith("is missing"):
        return "add it; runctl schema says what it may be"
    found = _MUST.search(message)
    if found is None:
        return "write a value that runctl schema allows"
    return f"write {'a number ' if found[1].startswith(('greater', 'less', 'at ')) else ''}{found[1]}"
