"""CK107: it would go on from a checkpoint of another model

## Why

A resume that loaded what it could, loosely, and went on from scratch where it could not, repeated its warm-up and said
nothing. Weights of another width, depth or vocabulary do not fit; a loader that is strict fails at start-up on the paid
machine, and one that is not trains something that nobody described.

## Fails

```yaml
model: {hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, vocab_size: 50257}
trainer: {max_steps: 1000, batch_size: 8, lr: 0.0003}
resume_from_checkpoint: earlier/config.json
```

```json beside file=earlier/config.json
{"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "vocab_size": 50257}
```

## Passes

```yaml
model: {hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, vocab_size: 50257}
trainer: {max_steps: 1000, batch_size: 8, lr: 0.0003}
resume_from_checkpoint: earlier/config.json
```

```json beside file=earlier/config.json
{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 50257}
```

## What to do

Point it to a checkpoint of this model, or make the model the one that the checkpoint holds. Looked at is the
`config.json` that lies with the weights, as Transformers writes it, where it is on this machine; a checkpoint that is
elsewhere is not checked. Weights that a run only begins with are a warning: a loader may take a part of them.

runctl's own runs go on from their own checkpoints only, and the trainer refuses one of another architecture, encoding
or dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runctl.facts import Facts, Finding, NotChecked, Severity
from runctl.filekind import other_than_file

SEVERITY: Severity = "error"
_WORDS = frozenset(
    ("auto", "true", "false", "none", "null", "never", "must", "allow", "latest", "last", "best", "yes", "no")
)
_KEYS = {
    "hidden_size": "d_model", "n_embd": "d_model", "d_model": "d_model", "num_hidden_layers": "n_layers",
    "n_layer": "n_layers", "num_attention_heads": "n_heads", "n_head": "n_heads",
    "num_key_value_heads": "n_kv_heads", "intermediate_size": "d_ff", "vocab_size": "vocab_size",
}  # fmt: skip
MAX_BYTES = 1 << 20


def check(facts: Facts) -> Iterable[Finding]:
    if not facts.foreign:
        return
    for name in ("run.resume", "run.init_from"):
        given = facts.get(name)
        if given is None or given.lower() in _WORDS:
            continue
        known = _described(facts, given)
        if known is None:
            raise NotChecked(f"{given} is not on this machine, or does not say what model it holds")
        differing = [
            (key, known[theirs], ours)
            for theirs, key in _KEYS.items()
            if theirs in known and (ours := facts.get(f"declares.{key}")) is not None and ours != known[theirs]
        ]
        if differing:
            said = ", ".join(
                f"{facts.key(f'declares.{key}')} is {there} there and {here} here" for key, there, here in differing
            )
            severity: Severity = "error" if name == "run.resume" else "warning"
            fix = "point it to a checkpoint of this model, or make the model the one that the checkpoint holds"
            yield Finding(
                f"{facts.key(name)}: {given} holds another model: {said}", at=name, fix=fix, severity=severity
            )


def _described(facts: Facts, given: str) -> dict[str, Any] | None:
    """What the `config.json` in or at a path says; None where there is none that can be read."""
    root = facts.project.root if facts.project else Path()
    try:
        place = root / given
        file = place if place.suffix == ".json" else place / "config.json"
        if other_than_file(file) or not file.exists() or file.stat().st_size > MAX_BYTES:
            return None
        data = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and any(key in data for key in _KEYS) else None
