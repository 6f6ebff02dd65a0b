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

```yaml
trainer: {max_steps: 500, batch_size: 8, init_from: "weights/${MODEL}.pt"}
```

## Passes

```yaml
length: 2048
trainer: {max_steps: 500, batch_size: 8, seq_len: "${length}"}
```

```yaml
data: {encoded: data/encoded-2k}
training: {steps: 100}
tracking: {wandb: online, project: melee}
```

## What to do

Write the value. runctl resolves no variables in configs; what differs between launches is given as
`--set data.encoded=…`. Found are values that are wholly a placeholder, and in other trainers' configs variables within
a path or name. Special tokens such as `<pad>` are none, nor are variables that name a key of the config, as Hydra
resolves them; give a trainer that fills in others by itself with `--source DIR`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runctl.facts import Facts, Finding, Severity
from runctl.light import pattern

SEVERITY: Severity = "error"

_WORDS = pattern(r"(?i:todo|fixme|change[ _-]?me|replace[ _-]?me|fill[ _-]?me(?:[ _-]?in)?|tbd)|XXX+")
_VARIABLE = pattern(r"\$\{[^{}]*\}|\{\{[^{}]*\}\}")
_ANGLE = pattern(r"<([A-Za-z][A-Za-z0-9 ._/-]*)>")
_HUMAN = pattern(r"\b(?:your|my|path|todo|insert|replace|fill|here|name|dir|directory|folder|file|project|user|run)\b")
_BEGINS = "${<tTfFcCrRX "  # of a variable, of <…>, and of the words
_PART = pattern(r"\$\{([A-Za-z_]\w*)\}|\{\{ ?[A-Za-z_]\w* ?\}\}")
_FILLED = pattern(r"prompt|template|format|pattern|regex|command|cmd|script|expr|message|filename")
_SHELL = frozenset(("HOME", "USER", "PWD", "TMPDIR", "TMP", "SCRATCH", "HOSTNAME", "CONDA_PREFIX", "VIRTUAL_ENV"))
_FILLERS = frozenset(("expandvars", "OmegaConf", "hydra", "envsubst", "safe_substitute", "EnvYAML", "pyaml_env"))
LONGEST = 500
_NAMED = pattern(r"\$\{([\w.:-]*[^{}]*)\}")
_MARKS = ("\ndefaults:", "_target_:", "_component_:", "class_path:")
_TOKENS = {
    "pad", "unk", "bos", "eos", "sep", "cls", "mask", "s", "e", "n", "im_start", "im_end", "image", "img", "video",
    "audio", "user", "assistant", "system", "tool", "think", "start", "end", "sos", "go", "blank", "null", "none",
    "eot", "eod", "fim_prefix", "fim_middle", "fim_suffix", "unused", "extra_id",
}  # fmt: skip


def check(facts: Facts) -> Iterable[Finding]:
    if facts.get("config.kind") == "other":
        return  # other programs fill in variables of their own
    for one in facts.need("config.scalars"):
        if facts.foreign and "{" in one.text and (part := unfilled(one.key, one.text, facts)):
            fix = f"write the value, or check it with --set {one.key}=VALUE"
            message = f"{one.key} still has the placeholder {part} in it, which YAML does not fill in"
            yield Finding(message, at=one.position, fix=fix, key=one.key)
            continue
        if one.text and one.text[0] in _BEGINS and is_placeholder(one.key, one.text):
            if facts.foreign and resolves(one.text, facts):
                continue
            if one.key.startswith("command.") and one.text.startswith("{{") and not facts.foreign:
                continue  # there it is the text of a placeholder, which has single braces
            shown = one.text if len(one.text) <= 60 else one.text[:57] + "…"
            fix = f"write the value, or launch with --set {one.key}=VALUE"
            given = "" if one.position else " (--set)"
            yield Finding(f"{one.key} is still the placeholder {shown}{given}", at=one.position, fix=fix)


def unfilled(key: str, text: str, facts: Facts) -> str | None:
    """A variable within a longer text of another trainer's config that nothing fills in: no key of the config, none of
    the shell's own, and no prompt or template, whose variables the program fills in."""
    text = text.strip()
    if len(text) > LONGEST or "\n" in text or _VARIABLE.fullmatch(text) or _FILLED.search(key.lower()):
        return None
    for match in _PART.finditer(text):
        if match[1] in _SHELL or str(match[1]).startswith("SLURM_") or resolves(match[0], facts):
            continue
        if match[0][0] == "$" or ("/" in text and " " not in text):
            return match[0]
    return None


def resolves(text: str, facts: Facts) -> bool:
    """Whether a variable is one that Hydra or OmegaConf resolve: another key of the config, or a resolver's call; where
    `defaults` name other files, their keys too; and any, where the code that is given fills variables in."""
    match = _NAMED.fullmatch(text.strip())
    if match is None:
        return False
    name = match[1]
    if name[:1] == "." or ":" in name or composed(facts) or _FILLERS & facts.get("source.words", frozenset()):
        return True
    wanted = f".{name}"
    keys = facts.get("config.keys", {})
    return any(f".{'.'.join(map(str, path))}".endswith(wanted) for path in keys)


def composed(facts: Facts) -> bool:
    """Whether a config is put together by Hydra or a library like it."""
    text = facts.get("config.text", "")
    return text.startswith("defaults:") or any(mark in text for mark in _MARKS)


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
