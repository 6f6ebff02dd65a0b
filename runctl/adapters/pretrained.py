"""Published models by the names in a config: their families, widths and parameters (`data/models.yaml`).

A name counts where a key speaks of a model, and where nothing but the habits of such names follows the model's own
(`SmolLM2-1.7B-Instruct`, `meta-llama/Llama-2-7b-hf`, `/models/gpt2-medium/`): `gpt2-custom-tiny` is another model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from runctl import shipped
from runctl.adapters.spec import words
from runctl.light import dataclass, pattern

_MODEL = frozenset((
    "model", "llm", "lm", "backbone", "encoder", "decoder", "vision", "tower", "pretrained", "base", "dino", "vit",
    "network", "net",
))  # fmt: skip
_NOT = frozenset((
    "tokenizer", "tokenizers", "processor", "teacher", "judge", "reward", "reference", "ref", "draft", "vae",
    "scorer", "metric", "output", "dir", "out", "save", "cache", "log", "logging", "project", "wandb", "run",
    "experiment", "hub", "prompt", "template", "eval", "evaluation", "generation", "inference", "data", "dataset",
    "datasets", "train", "validation", "shards", "adapter",
))  # fmt: skip
_HABITS = frozenset((
    "instruct", "chat", "it", "hf", "base", "deduped", "sft", "dpo", "orpo", "lora", "merged", "bf16", "fp16",
    "fp32", "preview", "text", "generation", "alpha", "beta", "intermediate", "step", "3t", "4k", "8k", "32k",
    "128k", "1m", "pt", "uncased", "cased", "reg", "registers", "bnb", "4bit", "8bit",
))  # fmt: skip
_VERSION = pattern(r"v?\d+(\.\d+)*[bmk]?")
_COUNT = pattern(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])")
_OF_ITS_OWN = ("parameters", "source", "names")


@dataclass(frozen=True)
class Pretrained:
    """A published model: `given` are the fields of `declares` that its configuration states."""

    name: str
    parameters: int
    given: dict[str, Any]
    source: str


@cache
def catalogue() -> dict[str, Pretrained]:
    """Every model of `data/models.yaml` by each of its names, as `_plain` writes them."""
    data = shipped.load("models.yaml")
    found = {}
    for name, raw in data["models"].items():
        source = data["sources"][raw["source"]]
        given = {key: value for key, value in raw.items() if key not in _OF_ITS_OWN}
        model = Pretrained(name, raw["parameters"], given, f"{source['title']}, {source['date']}")
        for one in (name, *raw.get("names", ())):
            found[_plain(one)] = model
    return found


def find(text: str) -> Pretrained | None:
    """The published model that a name or a path speaks of."""
    for part in reversed(re.split(r"[/\\]", text)):
        pieces = _plain(part.partition(":")[0].partition("@")[0]).split("-")
        for length in range(len(pieces), 0, -1):
            model = catalogue().get("-".join(pieces[:length]))
            if model is not None and all(piece in _HABITS or _VERSION.fullmatch(piece) for piece in pieces[length:]):
                return model
    return None


def count(text: str) -> int | None:
    """The parameters that the last part of a name claims: `our-model-1.3B` → 1.3e9."""
    match = _COUNT.search(re.split(r"[/\\]", text.rstrip("/\\"))[-1].lower().replace("_", "-"))
    return round(float(match[1]) * (1e6 if match[2] == "m" else 1e9)) if match else None


def mentioned(leaves: Sequence[Any]) -> list[tuple[str, Any]]:
    """(text, path) of every value that names a published model under a key that speaks of one; none where another
    such key is still to be filled in, so that not all of the models are known."""
    found = []
    for leaf in leaves:
        if not isinstance(leaf.value, str) or len(leaf.value) > 300:
            continue
        inside = frozenset[str]().union(*(words(str(part)) for part in leaf.path))
        if not inside & _MODEL or inside & _NOT:
            continue
        if "${" in leaf.value or "{{" in leaf.value:
            return []
        if find(leaf.value) is not None:
            found.append((leaf.value, leaf.path))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())
