"""What lies over and under a config: base files that it builds on, `--set` and `--gpu`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runctl import hardware
from runctl.adapters.vocabulary import WORDS
from runctl.config import parse_override
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.yamldoc import Document, Path

CPU = ("none", "cpu")


def merged(documents: Sequence[Document]) -> Document:
    """One document of several, the last over the others: mappings are merged, all else is replaced, a list as a whole
    and what is null with nothing. Every value keeps the place where it was written. Raises UsageError where one of
    them holds no mapping."""
    if len(documents) == 1:
        return documents[0]
    for document in documents:
        if document.data is not None and not isinstance(document.data, dict):
            kind = "a list" if isinstance(document.data, list) else "a single value"
            hint = "files that lie over each other are mappings: key: value"
            raise UsageError(f"{document.file} holds {kind}, so that it cannot lie under or over another", hint=hint)
    *lower, top = documents
    duplicates = [one for each in documents for one in each.duplicates]
    result = Document(top.file, top.text, {}, duplicates=duplicates, beneath=tuple(lower))
    for document in documents:
        replaced = _over(result.data, document.data or {})
        _places(result.keys, document.keys, replaced)
        _places(result.values, document.values, replaced)
        _places(result.scalars, document.scalars, replaced)
    return result


def _over(data: dict[Any, Any], upper: dict[Any, Any]) -> set[Path]:
    """Lay `upper` over `data`; returns the paths of what was lost. Without recursion: aliases can nest deeply."""
    replaced: set[Path] = set()
    open_: list[tuple[dict[Any, Any], dict[Any, Any], Path]] = [(data, upper, ())]
    while open_:
        node, over, path = open_.pop()
        for key, value in over.items():
            below = node.get(key)
            if isinstance(value, dict) and isinstance(below, dict):
                open_.append((below, value, (*path, key)))
                continue
            if key in node:
                replaced.add((*path, key))
            node[key] = unshared(value)
    return replaced


def unshared(value: Any) -> Any:
    """A copy in which no two places hold the same mapping or list, as aliases do: a change of one is none of others."""
    result = [value]
    open_: list[tuple[Any, Any]] = [(result, 0)]
    while open_:
        holder, key = open_.pop()
        node = holder[key]
        if isinstance(node, dict):
            holder[key] = dict(node)
            open_ += ((holder[key], inner) for inner in node)
        elif isinstance(node, list):
            holder[key] = list(node)
            open_ += ((holder[key], index) for index in range(len(node)))
    return result[0]


def _places(table: dict[Path, Any], upper: dict[Path, Any], replaced: set[Path]) -> None:
    """Forget where the lost stood; what the upper file has stands there."""
    lost = [path for path in table if any(path[:depth] in replaced for depth in range(1, len(path) + 1))]
    for path in lost if replaced else ():
        del table[path]
    table.update(upper)


def parsed(overrides: Sequence[str], gpu: str | None) -> dict[Path, str]:
    """Each override's path and its value as written; raises UsageError where one is not key=value."""
    given = {parse_override(text)[0]: text.partition("=")[2].strip() for text in overrides}
    return given | ({("compute", "gpu"): gpu} if gpu is not None else {})


def native(overrides: Sequence[str], gpu: str | None) -> list[str]:
    """The overrides of one of runctl's own configs, where the GPU is a setting like any other."""
    if gpu is None:
        return list(overrides)
    if gpu.lower() in CPU:
        return [*overrides, "compute.gpu=null"]
    hardware.split(gpu)
    return [*overrides, f"compute.gpu={json.dumps(gpu)}"]


def apply(document: Document, overrides: dict[Path, str]) -> list[Path]:
    """Set each override in a foreign config's data; returns the paths. Keys as the file writes them keep their kind."""
    from runctl import yamldoc

    document.data = unshared(document.data) if overrides else document.data
    for path, text in overrides.items():
        if not isinstance(document.data, dict) or (path == ("compute", "gpu") and "compute" not in document.data):
            continue
        node, dotted = document.data, ".".join(map(str, path))
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                break
        if isinstance(node, dict):
            node[path[-1]] = yamldoc.parse(text).data
        elif dotted not in WORDS:  # which needs no section of that name
            raise UsageError(f"--set {dotted}: {dotted.rpartition('.')[0]} is not a section")
    return list(overrides)


def canonical(facts: Facts, overrides: dict[Path, str], gpu: str | None) -> None:
    """A foreign config is also told facts by their own names: `--set training.samples=3e5`, `--gpu NAME:COUNT`."""
    from runctl import yamldoc

    for path, text in overrides.items():
        name = ".".join(map(str, path))
        if name not in WORDS or ((source := facts.source(name)) and source.kind == "override"):
            continue
        if name == "compute.gpu" and gpu is not None:
            continue
        try:
            facts.put(name, WORDS[name].parse(yamldoc.parse(text).data), "override", name)
        except ValueError as error:
            raise UsageError(f"--set {name}={text}: {error}") from None
    if gpu is None:
        return
    if gpu.lower() in CPU:
        facts.put("compute.gpu", None, "override", "--gpu")
        facts.put("training.device", "cpu", "override", "--gpu")
    else:
        hardware.split(gpu)
        facts.put("compute.gpu", gpu, "override", "--gpu")
        facts.put("training.device", "cuda", "override", "--gpu")
