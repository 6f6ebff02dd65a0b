"""What kind of file it is: a training config, a fragment of one, or something else; and what its text says of it."""

from __future__ import annotations

from pathlib import Path

from runctl.adapters import GENERIC
from runctl.adapters.spec import normal, words
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
_LEARNING = (
    "training.lr", "training.lrs", "training.optimizer", "training.epochs", "training.micro_steps",
    "training.accumulation", "training.warmup_steps", "training.warmup_ratio", "training.weight_decay",
    "training.grad_clip", "training.schedule",
)  # fmt: skip
_WIDTHS = ("declares.d_model", "declares.n_layers", "declares.n_heads", "declares.vocab_size")
_SECTIONS = frozenset(
    ("train", "training", "trainer", "finetune", "finetuning", "pretrain", "pretraining", "sft", "dpo")
)
_PARTS = frozenset((
    "model", "data", "datamodule", "dataset", "datasets", "train", "trainer", "training", "optim", "optimizer",
    "scheduler", "experiment", "algo", "algorithm", "agent", "loss", "callbacks", "logger", "net", "network",
))  # fmt: skip
_BASES = frozenset((
    "base", "base_config", "base_cfg", "extends", "inherit", "inherits", "inherit_from", "parent", "include",
))  # fmt: skip
_FILES = (".yaml", ".yml", ".json", ".py")
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
    if not any(_known(facts, name) for name in _LENGTHS):
        missing.append("how long it trains")
    if not any(_known(facts, name) for name in _BATCHES):
        missing.append("its batch size")
    facts.put("config.missing", tuple(missing), "derived", facts.dialect)
    if title := facts.get("adapter.other"):
        facts.put("config.kind", "other", "derived", facts.dialect)
        facts.put("config.kind_why", f"it is {title}", "derived")
    elif missing and (below := _below(document)) and (written or _learns(facts, document) or _parts(document)):
        facts.put("config.kind", "incomplete", "derived", facts.dialect)
        facts.put("config.kind_why", f"it builds on {below}: check them together, with --with", "derived")
    elif len(written) < LEAST_SIGNS or (facts.dialect == GENERIC and not _learns(facts, document)):
        model = sum(_written(facts, name) for name in _WIDTHS) >= LEAST_SIGNS
        if composed := _composed(document):
            facts.put("config.kind", "incomplete", "derived", facts.dialect)
            facts.put("config.kind_why", f"its defaults name other files that hold the rest: {composed}", "derived")
            return
        why = "it describes a model, and" if model else "it"
        facts.put("config.kind", "incomplete" if model else "other", "derived", facts.dialect)
        facts.put("config.kind_why", f"{why} says nothing of a training run: no batch, no length, no rate", "derived")
    elif len(missing) == 2:
        facts.put("config.kind", "incomplete", "derived", facts.dialect)
        facts.put("config.kind_why", f"it says neither {' nor '.join(missing)}", "derived")
    else:
        facts.put("config.kind", "training", "derived", facts.dialect)


def _learns(facts: Facts, document: Document) -> bool:
    """Whether it is of learning at all: who fetches, encodes or generates also has batches, steps and samples."""
    if any(_written(facts, name) for name in _LEARNING):
        return True
    return isinstance(document.data, dict) and any(words(str(key)) & _SECTIONS for key in document.data)


def _below(document: Document) -> str:
    """The file that a config says it builds on; "" where it says none."""
    top = document.data if isinstance(document.data, dict) else {}
    for key, value in top.items():
        named = value[0] if isinstance(value, list) and value else value
        if isinstance(named, str) and normal(str(key)) in _BASES and named.endswith(_FILES):
            return named.removeprefix("!include ")[:80]
    return ""


def _parts(document: Document) -> bool:
    return isinstance(document.data, dict) and any(words(str(key)) & _PARTS for key in document.data)


def _composed(document: Document) -> str:
    """The parts of a training that a Hydra config takes from other files; "" where there are not two of them."""
    listed = document.data.get("defaults") if isinstance(document.data, dict) else None
    names = [str(key) for item in listed if isinstance(item, dict) for key in item] if isinstance(listed, list) else []
    parts = [name for name in names if words(name.rpartition("/")[2].rpartition(" ")[2]) & _PARTS]
    return ", ".join(parts[:4]) if len(parts) >= LEAST_SIGNS else ""


def _known(facts: Facts, name: str) -> bool:
    """Whether the file says it, or the trainer has a default for it."""
    return _written(facts, name) or facts.source(name) is not None


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
