"""DA110: nothing here says how the dataset was encoded

## Why

A re-encode that forgot one override wrote the old encoding under a new name, and an experiment ran on it. A dataset
on a volume cannot be looked at from a laptop or in CI; its manifest is small, and can be committed.

## Fails

```yaml
data: {encoded: /volume/melee-2k}
training: {steps: 2000}
```

## Passes

```yaml
data: {encoded: data/encoded}
training: {steps: 2000}
```

```json manifest
{"kind": "encoded-dataset", "schema_version": 1, "frames": 2000000, "games": 250}
```

## What to do

Commit the small `<encoded>.manifest.json` that `runctl encode` writes beside the folder, and give `data.encoded`
relative to the project. With it every encoding rule works without the arrays. A dataset under the project that is not
encoded yet is DA102's concern until a launch.

## Policy

A warning, and an error on a long run: one that takes more than `long_run`, or has more than `long_run_steps` optimizer
steps where no measured time is known. Up to `smoke_steps` steps are a smoke test, which is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "warning"
NATIVE = True
LAUNCH = True
POLICY = ("long_run", "long_run_steps", "smoke_steps")


def check(facts: Facts) -> Iterable[Finding]:
    place, folder = facts.need("dataset.place"), facts.need("dataset.folder")
    away = place == "absent" and facts.launching and facts.get("compute.backend") != "local"
    if place != "elsewhere" and not away:
        return
    steps, length = facts.get("run.steps"), facts.get("run.length")
    if steps is not None and steps <= facts.policy["smoke_steps"]:
        return
    long = length is not None and length.long
    message = (
        f"data.encoded: {folder} is not here, and neither is its manifest: whether its encoding fits cannot be seen"
    )
    message += f", and the run is long ({length.why})" if long and length is not None else ""
    fix = "commit its .manifest.json and give the folder relative to the project"
    yield Finding(message, at="data.encoded", fix=fix, severity="error" if long else "warning")
