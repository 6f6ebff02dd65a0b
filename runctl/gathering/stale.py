"""Copies of configs that were left lying: `base.yaml.bak` beside `base.yaml`, `old_configs/x.yaml` beside `x.yaml`."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from runctl import yamldoc
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.gathering import sweeps
from runctl.light import dataclass
from runctl.yamldoc import Document

ENDINGS = (".updated", ".bak", ".backup", ".old", ".orig", ".save", ".new", ".tmp", "~")
FOLDERS = frozenset(("old", "old_configs", "deprecated", "archive", "archived", "legacy", "backup", "backups", "attic"))
MOST_ENTRIES = 20_000


@dataclass(frozen=True)
class Copy:
    """Another file of the same config. `left`: it is the one that was left lying, else this one is. `keys` are those in
    which the two differ, with both values (this one's, the other's); None where they could not be compared."""

    path: str
    left: bool
    keys: tuple[tuple[str, object, object], ...] | None


def compare(configs: Sequence[tuple[Facts, Document]]) -> None:
    """Put `siblings.copy` into the facts of a config that lies beside a copy of itself, or is one."""
    by_folder: dict[str, dict[str, tuple[Facts, Document]]] = defaultdict(dict)
    for facts, document in configs:
        folder, name = os.path.split(facts.path)
        by_folder[folder][name] = (facts, document)
    for folder, named in by_folder.items():
        for name in _entries(folder, named):
            original = _original(name)
            if original in named:
                _beside(*named[original], os.path.join(folder, name), named.get(name))
            if name in named:
                facts, document = named[name]
                path = os.path.join(folder, original)
                if original not in named and os.path.exists(path):
                    _beside(facts, document, path, None, left=False)
                elif original not in named:
                    facts.put("siblings.copy", Copy(path, False, None), "derived", "its name")
    _folders(configs)


def _original(name: str) -> str:
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending)


def _entries(folder: str, named: dict[str, tuple[Facts, Document]]) -> list[str]:
    """The names in a folder that are copies of configs, by their endings."""
    found = {name for name in named if name.endswith(ENDINGS)}
    try:
        with os.scandir(folder or ".") as entries:
            for count, entry in enumerate(entries):
                if count > MOST_ENTRIES:
                    break
                if entry.name.endswith(ENDINGS) and _original(entry.name).endswith((".yaml", ".yml", ".json")):
                    found.add(entry.name)
    except OSError:
        pass
    return sorted(found)


def _beside(
    facts: Facts, document: Document, path: str, other: tuple[Facts, Document] | None, left: bool = True
) -> None:
    """The config and its copy at `path`: each is told of the other."""
    try:
        data = other[1].data if other else yamldoc.load(Path(path), tags=True).data
    except UsageError:
        facts.put("siblings.copy", Copy(path, left, None), "derived", "its name")
        return
    mine, theirs = sweeps.flat(document.data), sweeps.flat(data)
    keys = tuple(
        (key, mine.get(key, sweeps.ABSENT), theirs.get(key, sweeps.ABSENT))
        for key in dict.fromkeys((*mine, *theirs))
        if mine.get(key, sweeps.ABSENT) != theirs.get(key, sweeps.ABSENT)
    )
    facts.put("siblings.copy", Copy(path, left, keys), "derived", "its name")
    if other:
        turned = tuple((key, one, two) for key, two, one in keys)
        other[0].put("siblings.copy", Copy(facts.path, not left, turned), "derived", "its name")


def _folders(configs: Sequence[tuple[Facts, Document]]) -> None:
    """Configs of one name, of which one lies in a folder of old ones."""
    named: dict[str, list[tuple[Facts, Document]]] = defaultdict(list)
    old = set()
    for facts, document in configs:
        name = os.path.basename(facts.path)
        named[name].append((facts, document))
        if FOLDERS & set(os.path.dirname(facts.path).lower().split(os.sep)):
            old.add(facts.path)
    for path in old:
        group = named[os.path.basename(path)]
        facts, document = next(one for one in group if one[0].path == path)
        current = next((one for one in group if one[0].path not in old), None)
        if current is not None and "siblings.copy" not in facts.values:
            _beside(*current, path, (facts, document))
