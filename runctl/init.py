"""`runctl init`: the files with which a project begins; what is there already stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from runctl import record
from runctl.errors import UsageError

IGNORED = ("/runs/", "/.runctl/")
_TEMPLATES = {
    "runctl.yaml": "runctl.yaml",
    "configs/first.yaml": "first.yaml",
    ".github/workflows/preflight.yml": "workflow.yml",
}


@dataclass(frozen=True)
class Item:
    """A file of the project. `state` is `new`, `there` (it stays as it is), `replaced`, or `extended` by lines."""

    path: Path
    state: str
    text: str = ""


def plan(folder: Path, *, force: bool = False) -> tuple[Item, ...]:
    """What would be written; nothing is. Raises UsageError where the folder cannot be a project."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="name the folder in which the project begins")
    return tuple(_items(folder, force))


def write(items: tuple[Item, ...]) -> None:
    """Write what is planned: each file whole or not at all."""
    for item in items:
        if item.state != "there":
            record.write_text(item.path, item.text)


def _items(folder: Path, force: bool) -> Iterator[Item]:
    for name, template in _TEMPLATES.items():
        yield _item(folder / name, partial(_template, template), force)
    yield _item(folder / "runcards" / "first.md", partial(_card, folder), force)
    for name, make in _schemas().items():
        yield _item(folder / name, make, force)
    yield _ignore(folder / ".gitignore")


def _item(path: Path, make: Callable[[], str], force: bool) -> Item:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="move it away: runctl init writes a file there")
    if path.exists() and not force:
        return Item(path, "there")
    return Item(path, "replaced" if path.exists() else "new", make())


def _template(name: str) -> str:
    return resources.files("runctl").joinpath("data/init", name).read_text(encoding="utf-8")


def _card(folder: Path) -> str:
    """The draft of a run card for the first config."""
    from runctl import preflight, yamldoc
    from runctl.cards import draft
    from runctl.project import Project

    config, project = folder / "configs" / "first.yaml", Project(folder)
    document = yamldoc.parse(_template("first.yaml"), str(config))
    facts, _ = preflight.gather(config, None, project, document)
    return draft.text("first", config, facts, (), project)


def _schemas() -> dict[str, Callable[[], str]]:
    from runctl import schema  # loads every rule, which the listing of an existing project does not need

    def text(make: Callable[[], object]) -> Callable[[], str]:
        return lambda: json.dumps(make(), indent=2, ensure_ascii=False) + "\n"

    return {"schema/config.json": text(schema.config), "schema/project.json": text(schema.project)}


def _ignore(path: Path) -> Item:
    """The lines that git should leave out, added to those that are there."""
    if not path.exists():
        return Item(path, "new", "".join(f"{line}\n" for line in IGNORED))
    try:
        before = path.read_bytes().decode()
    except UnicodeDecodeError:  # not a file for us to write to
        return Item(path, "there")
    known = {line.strip().strip("/") for line in before.splitlines()}
    missing = [line for line in IGNORED if line.strip("/") not in known]
    if not missing:
        return Item(path, "there")
    gap = "" if not before or before.endswith("\n") else "\n"
    return Item(path, "extended", before + gap + "".join(f"{line}\n" for line in missing))
