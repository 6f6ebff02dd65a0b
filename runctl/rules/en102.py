"""EN102: no credentials for what the config asks

## Why

A tracker that could not log in was swallowed by the program, and the run went on for a night with nobody able to see
it. A provider or a hub without a token fails later still: at the upload, after the training.

## Fails

```yaml launch
training: {steps: 100}
tracking: {wandb: online}
```

```yaml launch
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```

## Passes

```yaml launch
training: {steps: 100}
tracking: {wandb: offline}
```

## What to do

Log in on this machine (`wandb login`, `modal token new`, `hf auth login`), or set the variables that the message
names. Only whether credentials are there is looked at, never what they are, and only where a launch follows or with
`--online`: a checkout without secrets is not at fault. Whether they are still valid is not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.gathering.surroundings import LATER

SEVERITY: Severity = "error"
LAUNCH = True
_ASKED = (
    ("wandb", "tracking.wandb", "Weights & Biases", "wandb login, or set WANDB_API_KEY"),
    ("modal", "compute.backend", "Modal", "modal token new, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"),
    ("hub", "run.hub", "the Hugging Face hub", "hf auth login, or set HF_TOKEN"),
)


def check(facts: Facts) -> Iterable[Finding]:
    if facts.get("config.problems"):
        raise NotChecked(facts.otherwise or "the config is not valid")
    asked = [entry for entry in _ASKED if facts.get(f"credentials.{entry[0]}") is not None]
    follows = facts.launching and not facts.foreign  # another trainer is launched by somebody else
    if asked and not (follows or facts.get("check.online")):
        raise NotChecked(LATER)
    for name, fact, who, how in asked:
        if not facts.get(f"credentials.{name}"):
            message = f"{facts.key(fact)} asks for {who}, and this machine has no credentials for it"
            yield Finding(message, at=fact, fix=how)
