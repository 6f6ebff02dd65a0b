"""CF102: a placeholder that was never filled in

## Why

A value that is still `${DATA_DIR}`, `<RUN_NAME>` or `TODO` reads as ordinary text: the run starts, and looks for its
data in a folder of that name, or reports to a project of that name. Unexpanded text in paths cost runs their data
without an error.

## Fails

```yaml
data: {encoded: "${DATA_DIR}"}
training: {steps: 100}
```

```yaml
training: {steps: 100}
tracking: {wandb: online, project: CHANGEME}
```

## Passes

```yaml
data: {encoded: data/encoded-2k}
training: {steps: 100}
tracking: {wandb: online, project: melee}
```

## What to do

Write the value. runctl resolves no variables in configs; what differs between launches is given as
`--set data.encoded=…`. Only values that are wholly a placeholder are found; special tokens such as `<pad>` are not
placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity

SEVERITY: Severity = "error"

_WORDS = re.compile(r"(?i:todo|fixme|change[ _-]?me|replace[ _-]?me|fill[ _-]?me(?:[ _-]?in)?|tbd)|XXX+")
_VARIABLE = re.compile(r"\$\{[^{}]*\}|\{\{[^{}]*\}\}")
_ANGLE = re.compile(r"<([A-Za-z][A-Za-z0-9 ._/-]*)>")
_HUMAN = re.compile(
    r"\b(?:your|my|path|todo|insert|replace|fill|here|name|dir|directory|folder|file|project|user|run)\b"
)
_TOKENS = {
    "pad", "unk", "bos", "eos", "sep", "cls", "mask", "s", "e", "n", "im_start", "im_end", "image", "img", "video",
    "audio", "user", "assistant", "system", "tool", "think", "start", "end", "sos", "go", "blank", "null", "none",
    "eot", "eod", "fim_prefix", "fim_middle", "fim_suffix", "unused", "extra_id",
}  # fmt: skip


def check(facts: Facts) -> Iterable[Finding]:
    for one in facts.need("config.scalars"):
        if is_placeholder(one.key, one.text):
            shown = one.text if len(one.text) <= 60 else one.text[:57] + "…"
            fix = f"write the value, or launch with --set {one.key}=VALUE"
            given = "" if one.position else " (--set)"
            yield Finding(f"{one.key} is still the placeholder {shown}{given}", at=one.position, fix=fix)


def is_placeholder(key: str, text: str) -> bool:
    """Whether the value is wholly something that a person was to fill in."""
    text = text.strip()
    if _VARIABLE.fullmatch(text) or _WORDS.fullmatch(text):
        return True
    angle = _ANGLE.fullmatch(text)
    if angle is None or "token" in key.lower():
        return False
    inside = angle[1]
    if re.sub(r"[_-]?\d+$", "", inside.lower()) in _TOKENS:
        return False
    return inside.upper() == inside or bool(_HUMAN.search(re.sub(r"[_./-]", " ", inside.lower())))
