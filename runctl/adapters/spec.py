"""An adapter as data: which configs are its own, and where each fact stands in them.

    name: ours
    match: ["experiments/*.yaml"]
    facts:
      training.batch_size: train.batch_size
      training.micro_steps: train.steps
      checkpoint.every: {key: train.save_every, unit: steps, values: {0: never}}
      declares.parameters: {key: model.name, contains: {"135M": 135M, "1.7B": 1.7B}}
    defaults: {checkpoint.every: never}

A fact has one source or a list of them, of which the first that is there wins. A key path is exact
(`train.steps`), or begins with `**.` and then stands at any depth. Nothing of an adapter is ever run as code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runctl.adapters.vocabulary import WORDS
from runctl.errors import UsageError, did_you_mean
from runctl.yamldoc import Document, Path

UNITS = ("steps", "micro_steps", "samples", "tokens", "epochs", "seconds", "minutes", "hours", "share")
_SECTIONS = ("name", "title", "match", "recognise", "facts", "defaults", "documentation")
_SOURCE = ("key", "unit", "values", "contains", "factor", "when")


@dataclass(frozen=True)
class Take:
    """One place where a fact may stand. `values` maps what is written there to what it means, `contains` maps a part
    of a text to it, `factor` multiplies, and `when` names other keys with the values that they must have."""

    key: str
    unit: str | None = None
    values: tuple[tuple[Any, Any], ...] = ()
    contains: tuple[tuple[str, Any], ...] = ()
    factor: float | None = None
    when: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Spec:
    """A whole adapter. `recognise_all` and `recognise_any` are key paths that make a config its own."""

    name: str
    title: str = ""
    match: tuple[str, ...] = ()
    recognise_all: tuple[str, ...] = ()
    recognise_any: tuple[str, ...] = ()
    facts: dict[str, tuple[Take, ...]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    file: str = ""


def read(data: Any, document: Document, at: Path = ()) -> Spec:
    """The adapter that stands at `at` in `document`. Raises UsageError with file:line:col and the nearest name."""
    section = _Section(document, at)
    if not isinstance(data, dict):
        raise section.error((), "an adapter is a mapping with name, match and facts")
    section.only(data, _SECTIONS)
    name = data.get("name")
    if not isinstance(name, str) or not name.strip():
        raise section.error((), "the adapter has no name", "add: name: ours")
    recognise = data.get("recognise") or {}
    if not isinstance(recognise, dict) or set(recognise) - {"all", "any"}:
        raise section.error(("recognise",), "recognise takes `all` and `any`, lists of key paths")
    facts = data.get("facts") or {}
    defaults = data.get("defaults") or {}
    for key, part in (("facts", facts), ("defaults", defaults)):
        if not isinstance(part, dict):
            raise section.error((key,), f"{key} must map names of facts to " + ("keys" if key == "facts" else "values"))
        for fact in part:
            if fact not in WORDS:
                hint = did_you_mean(str(fact), list(WORDS)) or "runctl adapt --facts lists them"
                raise section.error((key, fact), f"there is no fact '{fact}'", hint)
    for fact, value in defaults.items():
        try:
            WORDS[fact].parse(value)
        except ValueError as error:
            raise section.error(("defaults", fact), f"{fact}: {error}") from None
    return Spec(
        name=name,
        title=str(data.get("title") or ""),
        match=section.strings(data.get("match"), ("match",)),
        recognise_all=section.strings(recognise.get("all"), ("recognise", "all")),
        recognise_any=section.strings(recognise.get("any"), ("recognise", "any")),
        facts={str(fact): tuple(_takes(given, section, ("facts", fact))) for fact, given in facts.items()},
        defaults=dict(defaults),
        file=document.file,
    )


def _takes(given: Any, section: _Section, at: Path) -> Iterator[Take]:
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, str):
            yield Take(item)
            continue
        if not isinstance(item, dict) or not isinstance(item.get("key"), str):
            raise section.error(at, "a source is a key path, or a mapping with `key`", "write it as train.batch_size")
        section.only(item, _SOURCE, at)
        unit, factor = item.get("unit"), item.get("factor")
        if unit is not None and unit not in UNITS:
            raise section.error(at, f"the unit is {str(unit)[:30]!r}; it can be {', '.join(UNITS)}")
        if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float)):
            raise section.error(at, "factor must be a number")
        for name in ("values", "contains", "when"):
            if not isinstance(item.get(name) or {}, dict):
                raise section.error(at, f"{name} must be a mapping")
        yield Take(
            item["key"],
            unit,
            tuple((item.get("values") or {}).items()),
            tuple((str(part), value) for part, value in (item.get("contains") or {}).items()),
            factor,
            tuple((str(key), value) for key, value in (item.get("when") or {}).items()),
        )


@dataclass(frozen=True)
class _Section:
    document: Document
    at: Path

    def error(self, path: Path, message: str, hint: str | None = None) -> UsageError:
        return UsageError(f"{self.document.position((*self.at, *path))}: {message}", hint=hint)

    def only(self, data: dict[Any, Any], known: tuple[str, ...], path: Path = ()) -> None:
        for key in data:
            if key not in known:
                hint = did_you_mean(str(key), list(known)) or f"known: {', '.join(known)}"
                raise self.error((*path, key), f"unknown key '{key}' in an adapter", hint)

    def strings(self, given: Any, path: Path) -> tuple[str, ...]:
        items = [given] if isinstance(given, str) else given or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.error(path, f"{path[-1]} must be a text or a list of texts")
        return tuple(items)
