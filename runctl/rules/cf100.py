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

from runctl.facts import Facts, Finding, Severity
from runctl.light import replace
from runctl.rules.cf101 import problems
from runctl.rules.cf102 import is_placeholder

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    placeholders = {
        one.position.line for one in facts.need("config.scalars") if one.position and is_placeholder(one.key, one.text)
    }
    for finding in problems(facts, "CF100"):
        if getattr(finding.at, "line", None) not in placeholders:  # CF102 says it better
            yield finding if finding.fix else replace(finding, fix="write a value that runctl schema allows")
