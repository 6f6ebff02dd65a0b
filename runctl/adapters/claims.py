"""Whose config is it? What a file's keys say, before any adapter reads it."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any

from runctl import tasks
from runctl.adapters.spec import Spec
from runctl.config import aliases
from runctl.config.model import RunConfig

ARCHITECTURES = ("mamba2",)
_MARKS = {"data": ("encoded", "simulate"), "compute": ("backend",)}  # keys of nobody else
_SECTIONS = ("encoding", "loss_weights", "declares")  # sections of nobody else, if they hold what they hold here
SHARE = 0.75
MOST_KEYS = 1_000  # of a file whose words are compared one by one with runctl's


def native(data: Any) -> bool:
    """Whether a config is runctl's own: it has a section that only runctl knows, or most of its keys are runctl's.

    A misspelt key counts as runctl's where it is near to one, so that it is found as a mistake, not as a dialect.
    """
    if not isinstance(data, dict) or not data:
        return True  # the native reader says best what is wrong with it
    task = data.get("task")
    if task is not None and not isinstance(task, dict | list) and _nearest(str(task), tasks.names()):
        return True
    if any(_marked(data.get(section), keys) for section, keys in _marks().items()):
        return True
    model = data.get("model")
    if isinstance(model, dict) and "arch" in model:
        return bool(_nearest(str(model["arch"]), ARCHITECTURES))  # others' have other names
    if _share(data, False) >= SHARE:
        return True
    keys = len(data) + sum(len(value) for value in data.values() if isinstance(value, dict))
    return keys <= MOST_KEYS and _share(data, True) >= SHARE


def _marked(section: Any, keys: frozenset[str]) -> bool:
    if not isinstance(section, dict):
        return False
    return not keys.isdisjoint(map(str, section))


@cache
def _marks() -> dict[str, frozenset[str]]:
    """Sections with the keys that only runctl's configs have there."""
    fields = _sections()
    return {name: frozenset(keys) for name, keys in _MARKS.items()} | {name: fields[name] for name in _SECTIONS}


def recognised(data: Any, spec: Spec) -> bool:
    """Whether the key paths by which an adapter knows its configs are there."""
    return why(data, spec) is not None


def why(data: Any, spec: Spec) -> tuple[str, ...] | None:
    """The key paths by which an adapter knows this config for its own; None where it does not."""
    if not spec.recognise_all and not spec.recognise_any:
        return None
    roots = [data, *(node for section in spec.sections if (node := _at(data, section)) is not None)]

    def there(keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key for key in keys if any(_has(root, key) for root in roots))

    every, some = there(spec.recognise_all), there(spec.recognise_any)
    if len(every) < len(spec.recognise_all) or (spec.recognise_any and not some) or there(spec.recognise_none):
        return None
    return (*every, *some)


def _at(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


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
    names = tuple(sections)
    for key, value in data.items():
        fields = sections.get(str(key))
        if fields is None and near and (guess := _nearest(str(key), names)):
            fields = sections[guess]
        if isinstance(value, dict) and value:
            total += len(value)
            listed = tuple(fields or ())
            known += sum(str(inner) in listed or (near and bool(_nearest(str(inner), listed))) for inner in value)
        else:
            total += 1
            known += fields is not None
    return known / max(total, 1)


@lru_cache(maxsize=10_000)
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
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
