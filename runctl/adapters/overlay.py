"""What lies over and under a config: base files that it builds on, `--set` and `--gpu`."""

from __future__ import annotations

import copy
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
    """One document of several, the last over the others: mappings are merged, all else is replaced. Every value keeps
    the place where it was written. Raises UsageError where one of them holds no mapping."""
    if len(documents) == 1:
        return documents[0]
    for document in documents:
        if document.data is not None and not isinstance(document.data, dict):
            raise UsageError(f"{document.file} holds no mapping of settings, so that nothing can be laid over it")
    top = documents[-1]
    result = Document(top.file, top.text, duplicates=[one for each in documents for one in each.duplicates])
    for document in documents:
        _over(result, document, (), document.data or {})
    return result


def _over(result: Document, document: Document, path: Path, data: dict[Any, Any]) -> None:
    node = result.data = result.data if isinstance(result.data, dict) else {}
    for part in path:
        node = node[part]
    for key, value in data.items():
        below = (*path, key)
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            result.keys[below] = document.keys.get(below, document.position(below))
            _over(result, document, below, value)
            continue
        node[key] = copy.deepcopy(value)
        for table, source in (
            (result.keys, document.keys), (result.values, document.values), (result.scalars, document.scalars)
        ):  # fmt: skip
            for old in [known for known in table if known[: len(below)] == below]:
                del table[old]
            table.update({known: at for known, at in source.items() if known[: len(below)] == below})  # type: ignore


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

    document.data = copy.deepcopy(document.data) if overrides else document.data
    for path, text in overrides.items():
        if not isinstance(document.data, dict) or (path == ("compute", "gpu") and "compute" not in document.data):
            continue
        node = document.data
        for part in path[:-1]:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                raise UsageError(f"--set {'.'.join(map(str, path))}: {part} is not a section")
            node = child
        node[path[-1]] = yamldoc.parse(text).data
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
