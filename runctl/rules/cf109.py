"""CF109: a secret in the config

## Why

A config is committed, copied into the record of every run, shown in reviews and sent to trackers; whoever reads one of
them can use the key. Keys found in public repositories are tried within minutes, and rented GPUs are what they are
spent on.

## Fails

```yaml
trainer: {max_steps: 500, batch_size: 8}
tracker: {project: demo, password: correct-horse-battery}
```

## Passes

```yaml
trainer: {max_steps: 500, batch_size: 8}
tracker: {project: demo, password: "${TRACKER_PASSWORD}", api_key: TRACKER_API_KEY}
tokenizer: {pad_token: <pad>, eos_token: "</s>"}
```

## What to do

Take the key back where it was issued, since it is in the history now; then give it to the run as an environment
variable, which runctl passes on and never records. What was found is not shown: reports hide it.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"


def check(facts: Facts) -> Iterable[Finding]:
    for secret, position in facts.need("config.secrets"):
        where = f"{secret.key} holds" if secret.key else "a comment or text holds"
        given = "" if position else " (--set)"
        fix = "revoke it, delete it here, and give it as an environment variable"
        yield Finding(f"{where} what looks like {secret.kind}{given}", at=position, fix=fix, key=secret.key)
