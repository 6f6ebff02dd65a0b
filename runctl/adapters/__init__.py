"""One file for each config dialect: `native` is runctl's own; the others are data, read by `foreign`.

Which adapter reads a config: the one asked for, the project's whose `match` fits its path (or that has no `match` and
recognises it), runctl's own where the config looks like one, the built-in dialect that recognises it, and `generic` for
all that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from runctl import shipped, yamldoc
from runctl.adapters.spec import Spec, read
from runctl.errors import UsageError, did_you_mean
from runctl.project import Project
from runctl.team import globs
from runctl.yamldoc import Document

NATIVE = "native"
GENERIC = "generic"


def choose(document: Document, project: Project, asked: str | None = None) -> Spec | None:
    """The adapter for this config; None means runctl's own reader. Raises UsageError where `asked` is none."""
    if asked:
        return None if asked == NATIVE else named(asked, project)
    for spec in of_project(project):
        if any(fits(document.file, pattern, project) for pattern in spec.match):
            return spec
    from runctl.adapters import claims

    for spec in of_project(project):
        if not spec.match and claims.recognised(document.data, spec):
            return spec
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
    reading = [NATIVE, *(spec.name for spec in known.values() if spec.kind == "training")]
    hint = did_you_mean(name, [*known, NATIVE]) or f"known: {', '.join(reading)}, or a YAML file of one"
    raise UsageError(f"there is no adapter '{name[:40]}'", hint=hint)


def from_file(path: Path) -> Spec:
    """The adapter of a file of its own, read once as long as it stays what it was."""
    document = yamldoc.load(path)
    known = _files.get(str(path))
    if known is None or known[0] != document.text:
        known = _files[str(path)] = (document.text, read(document.data, document, (), builtin()))
    return known[1]


_files: dict[str, tuple[str, Spec]] = {}


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
            _beside(project, item, index)
            if isinstance(item, str)
            else read(item, document, ("adapters", index), builtin())
            for index, item in enumerate(project.adapters)
        )
        _projects[key] = (document, specs)
    return _projects[key][1]


def _beside(project: Project, name: str, index: int) -> Spec:
    """The adapter of a file that `runctl.yaml` names."""
    if not (project.root / name).exists() and project.document is not None:
        place = project.document.position(("adapters", index))
        raise UsageError(f"{place}: no such file: {name}", hint=f"name it as seen from {project.root}")
    return from_file(project.root / name)


@cache
def builtin() -> dict[str, Spec]:
    """The dialects that runctl brings, by name: those of files that are no training configs first, `generic` last."""
    found: dict[str, Spec] = {}
    for name in shipped.names():
        if name.startswith("adapters/"):
            document = Document(name.removeprefix("adapters/"), "", shipped.load(name))
            listed = isinstance(document.data, list)
            for index, data in enumerate(document.data if listed else [document.data]):
                spec = read(data, document, (index,) if listed else ())
                found[spec.name] = spec
    return dict(sorted(found.items(), key=lambda item: (item[0] == GENERIC, item[1].kind == "training", item[0])))


def fits(file: str, pattern: str, project: Project) -> bool:
    """Whether a path, relative to the project, is one of the glob's: `*` stays within a folder, `**` does not."""
    try:
        relative = Path(file).resolve().relative_to(project.root.resolve()).as_posix()
    except ValueError:
        return False
    return globs.fits(relative, pattern)
