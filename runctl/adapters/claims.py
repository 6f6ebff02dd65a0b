"""Whose config is it? What a file's keys say, before any adapter reads it."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import Any

from runctl.adapters.spec import Spec
from runctl.config import aliases
from runctl.config.model import RunConfig

_MARKS = ("encoding", "loss_weights", "declares")
SHARE = 0.6


def native(data: Any) -> bool:
    """Whether a config is runctl's own: it has a section that only runctl knows, or most of its keys are runctl's.

    A misspelt key counts as runctl's where it is near to one, so that it is found as a mistake, not as a dialect.
    """
    if not isinstance(data, dict) or not data:
        return True  # the native reader says best what is wrong with it
    if data.get("task") is not None and not isinstance(data["task"], dict | list):
        return True
    model = data.get("model")
    if any(isinstance(data.get(mark), dict) for mark in _MARKS) or (isinstance(model, dict) and "arch" in model):
        return True
    return any(_share(data, near) >= SHARE for near in (False, True))


def recognised(data: Any, spec: Spec) -> bool:
    """Whether the key paths by which an adapter knows its configs are there."""
    if not spec.recognise_all and not spec.recognise_any:
        return False
    return all(_has(data, key) for key in spec.recognise_all) and (
        not spec.recognise_any or any(_has(data, key) for key in spec.recognise_any)
    )


def _has(data: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return True


def _share(data: dict[Any, Any], near: bool) -> float:
    """The share of a config's keys (those of its sections, and those that are none) that are runctl's; `near` counts
    those that are nearly so."""
    known = total = 0
    sections = _sections()
    names = list(sections)
    for key, value in data.items():
        fields = sections.get(str(key))
        if fields is None and near and (guess := _nearest(str(key), names)):
            fields = sections[guess]
        if isinstance(value, dict) and value:
            total += len(value)
            listed = list(fields or ())
            known += sum(str(inner) in listed or (near and bool(_nearest(str(inner), listed))) for inner in value)
        else:
            total += 1
            known += fields is not None
    return known / max(total, 1)


def _nearest(word: str, known: list[str]) -> str | None:
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.75)), None)


@cache
def _sections() -> dict[str, frozenset[str]]:
    """The keys of each section of runctl's configs, old spellings among them."""
    found: dict[str, set[str]] = {}
    for name, field in RunConfig.model_fields.items():
        annotation = field.annotation
        models = [annotation, *getattr(annotation, "__args__", ())]
        found[name] = {key for model in models for key in getattr(model, "model_fields", {})}
    for path in (*aliases.RENAMED, *aliases.UNUSED, *aliases.ONLY_OFF):
        found.setdefault(str(path[0]), set()).update(map(str, path[1:2]))
    return {name: frozenset(keys) for name, keys in found.items()}
