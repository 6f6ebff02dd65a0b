"""What kind of file it is: a training config, a fragment of one, or something else; and what its text says of it."""

from __future__ import annotations

from pathlib import Path

from runctl.facts import Facts
from runctl.yamldoc import Document

_SIGNS = (
    "training.batch_size", "training.global_batch", "training.step_tokens", "training.steps", "training.micro_steps",
    "training.epochs", "training.samples", "training.tokens", "training.lr", "training.lrs", "training.optimizer",
    "training.accumulation", "training.warmup_steps", "training.warmup_ratio", "checkpoint.every",
)  # fmt: skip
_LENGTHS = (
    "training.steps", "training.micro_steps", "training.epochs", "training.samples", "training.tokens",
    "training.time_limit",
)  # fmt: skip
_BATCHES = ("training.batch_size", "training.global_batch", "training.step_tokens")
LEAST_SIGNS = 2


def read(facts: Facts, document: Document, path: Path) -> None:
    """Put `config.kind` with `config.kind_why` and `config.missing`; `config.stem`, `config.header`."""
    facts.put("config.stem", path.stem, "file")
    facts.put("config.header", header(document), "file")
    if not facts.foreign:
        facts.put("config.kind", "training", "derived", "runctl's own")
        return
    written = [name for name in _SIGNS if _written(facts, name)]
    missing = []
    if not any(_written(facts, name) for name in _LENGTHS):
        missing.append("how long it trains")
    if not any(_written(facts, name) for name in _BATCHES):
        missing.append("its batch size")
    facts.put("config.missing", tuple(missing), "derived", facts.dialect)
    if len(written) < LEAST_SIGNS:
        facts.put("config.kind", "other", "derived", facts.dialect)
        facts.put("config.kind_why", "it says nothing of a training run: no batch, no length, no rate", "derived")
    elif len(missing) == 2:
        facts.put("config.kind", "incomplete", "derived", facts.dialect)
        facts.put("config.kind_why", f"it does not say {' and '.join(missing)}", "derived")
    else:
        facts.put("config.kind", "training", "derived", facts.dialect)


def _written(facts: Facts, name: str) -> bool:
    """Whether the file itself (or the command line) says it, even if what it says cannot be read."""
    source = facts.source(name)
    if source is not None:
        return source.kind in ("file", "override")
    return name in facts.values


def header(document: Document) -> tuple[tuple[int, str], ...]:
    """The comment lines at the top of a config, (line number, text without `#`), before its first key."""
    lines = []
    for number, line in enumerate(document.text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#"):
            lines.append((number, stripped.lstrip("#").strip()))
        elif stripped and stripped != "---":
            break
    return tuple(lines)
