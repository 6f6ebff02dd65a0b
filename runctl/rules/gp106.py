"""GP106: the modal section of runctl.yaml is not what Modal takes

## Why

The client lets twelve tags pass and the service takes eight; it makes an empty volume of a misspelt name, and refuses
a secret's name after the image is built. A secret's value that was written in place of its name would lie in every
record.

## Fails

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```

```yaml project
modal: {tags: {team: "melee and more"}}
```

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```

```yaml project
modal: {tags: {a: x, b: x, c: x, d: x, e: x, f: x}}
```

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```

```yaml project
modal: {volumes: team}
```

## Passes

```yaml
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```

```yaml project
modal: {volume: team, secrets: [wandb], tags: {team: melee}}
```

## What to do

Names have at most 64 letters, digits, dots, dashes and underscores, tags and their texts 63. A run has eight tags at
most, of which three are runctl's own (`runctl.run`, `runctl.config`, `runctl.version`). Secrets are given by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.errors import UsageError
from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    if facts.need("compute.backend") != "modal" or facts.project is None:
        return
    from runctl.backends.modal import place  # only a config that goes there needs it

    try:
        place.of(facts.project)
    except UsageError as error:
        yield Finding(error.message, at="compute.backend", fix=error.hint)
