"""One file for each config dialect: `native` is runctl's own; the others are data, read by `foreign`.

Which adapter reads a config: the one asked for, the project's whose `match` fits its path, runctl's own where the
config looks like one, the built-in dialect that recognises it, and `generic` for all that is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from runctl import yamldoc
from runctl.adapters.spec import Spec, read
from runctl.errors import UsageError, did_you_mean
from runctl.project import Project
from runctl.yamldoc import Document

NATIVE = "native"
GENERIC = "generic"


def choose(document: Document, project: Project, asked: str | None = None) -> Spec | None:
    """The adapter for this config; None means runctl's own reader. Raises UsageError where `asked` is none."""
    if asked:
        return None if asked == NATIVE else named(asked, project)
    for spec in of_project(project):
        if any(_fits(document.file, pattern, project) for pattern in spec.match):
            return spec
    from runctl.adapters import claims

    if claims.native(document.data):
        return None
    for spec in builtin().values():
        if spec.name != GENERIC and claims.recognised(document.data, spec):
            return spec
    return builtin()[GENERIC]


def named(name: str, project: Project) -> Spec:
    """An adapter by its name, or from a file; raises UsageError that names the nearest."""
    known = {spec.name: spec for spec in (*builtin().values(), *of_project(project))}
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return from_file(Path(name))
    hint = did_you_mean(name, [*known, NATIVE]) or f"known: {', '.join([NATIVE, *known])}, or a YAML file of one"
    raise UsageError(f"there is no adapter '{name[:40]}'", hint=hint)


def from_file(path: Path) -> Spec:
    """The adapter of a file of its own."""
    document = yamldoc.load(path)
    return read(document.data, document)


def of_project(project: Project) -> Sequence[Spec]:
    """The adapters that `runctl.yaml` declares: written there, or named as files beside it."""
    if project.document is None or not project.adapters:
        return ()
    return _of_project(id(project.document), project)


_projects: dict[int, tuple[Document, tuple[Spec, ...]]] = {}


def _of_project(key: int, project: Project) -> tuple[Spec, ...]:
    """Read once for each project, however many configs are checked."""
    document = project.document
    assert document is not None
    if key not in _projects or _projects[key][0] is not document:
        specs = tuple(
            from_file(project.root / item) if isinstance(item, str) else read(item, document, ("adapters", index))
            for index, item in enumerate(project.adapters)
        )
        _projects[key] = (document, specs)
    return _projects[key][1]


@cache
def builtin() -> dict[str, Spec]:
    """The dialects that runctl brings: `data/adapters/*.yaml`, by name; `generic` comes last."""
    found = {}
    for entry in resources.files("runctl").joinpath("data/adapters").iterdir():
        if entry.name.endswith(".yaml"):
            document = yamldoc.parse(entry.read_text(encoding="utf-8"), entry.name)
            spec = read(document.data, document)
            found[spec.name] = spec
    return dict(sorted(found.items(), key=lambda item: (item[0] == GENERIC, item[0])))


def _fits(file: str, pattern: str, project: Project) -> bool:
    """Whether a path, relative to the project, is one of the glob's: `*` stays within a folder, `**` does not."""
    try:
        relative = Path(file).resolve().relative_to(project.root.resolve()).as_posix()
    except ValueError:
        return False
    return bool(_pattern(pattern).fullmatch(relative))


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    parts = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces: list[Any] = re.split(r"(\*\*/|\*\*|\*|\?)", glob.removeprefix("./"))
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))
