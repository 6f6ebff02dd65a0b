"""A run card: its text and what its front matter says, or all that is wrong with it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, get_args

from runctl import project as projects
from runctl import record, yamldoc
from runctl.cards import contract as contracts
from runctl.cards import text as texts
from runctl.cards.contract import Contract
from runctl.cards.text import CardError, Text, problem
from runctl.config.settings import Settings, errors
from runctl.errors import Problem, UsageError, did_you_mean
from runctl.light import dataclass

FOLDER = "runcards"


@dataclass(frozen=True)
class Card:
    """A card that is in order."""

    path: Path
    text: Text
    contract: Contract

    @property
    def name(self) -> str:
        return self.path.stem

    def agreed(self) -> str:
        """SHA-256 (64 hex digits) of the text that a signature is for."""
        return digest(self.text.agreed())

    def save(self) -> None:
        """Write the card, whole or not at all; raises UsageError where the place cannot be written."""
        record.write_text(self.path, self.text.whole)


def digest(what: Any) -> str:
    """SHA-256 (64 hex digits) of a text, or of data as JSON."""
    text = what if isinstance(what, str) else json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path | str) -> Card:
    """Raises UsageError (missing, no text), CardError (every problem with its place)."""
    path = Path(path)
    return of(texts.read(path), path)


def of(text: Text, path: Path) -> Card:
    """The card of a text; raises CardError."""
    wrong = [_twice(one) for one in text.head.duplicates]
    found: Contract | None = None
    try:
        found = Contract.model_validate(text.head.data)
    except ValueError as error:
        wrong += [_problem(text, details) for details in errors(error)]
    if found is not None:
        wrong += [problem(text.head, where, said, hint) for where, said, hint in contracts.problems(found)]
    if wrong or found is None:
        raise CardError(sorted(wrong, key=lambda one: (one.line or 0, one.column or 0)))
    return Card(path, text, found)


def find(name: str, project: projects.Project) -> Path:
    """The card of that path, or of that name in `runcards/`; raises UsageError that names the nearest."""
    given = Path(name)
    if given.exists() or given.suffix == ".md" or "/" in name:
        return given
    folder = project.root / FOLDER
    path = folder / f"{name}.md"
    if path.exists():
        return near(path)
    known = sorted(one.stem for one in folder.glob("*.md"))
    hint = did_you_mean(name, known) or (f"known: {', '.join(known[:8])}" if known else "runctl card new CONFIG")
    raise UsageError(f"no card '{name}' in {folder}", hint=hint)


def every(project: projects.Project) -> list[Path]:
    """All cards of a project, by name."""
    found = sorted(path for path in (project.root / FOLDER).glob("*.md") if path.name.lower() != "readme.md")
    return [near(path) for path in found]


def near(path: Path) -> Path:
    """A path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _twice(one: yamldoc.DuplicateKey) -> Problem:
    dotted = ".".join(map(str, one.path))
    message = f"'{dotted}' is given twice; first at line {one.first.line}"
    return Problem(message, one.second.file, one.second.line, one.second.column, "keep one of the two", "card")


def _problem(text: Text, details: dict[str, Any]) -> Problem:
    where = tuple(details["loc"])
    dotted, hint = ".".join(map(str, where)), None
    if details["type"] == "extra_forbidden":
        known = _fields(where[:-1])
        message, hint = f"unknown key '{dotted}'", did_you_mean(str(where[-1]), known) or f"known: {', '.join(known)}"
    elif details["type"] == "missing":
        message, hint = f"'{dotted}' is missing", _meaning(where)
    else:
        said = re.sub(r"^Input should be", "must be", details["msg"].removeprefix("Value error, "))
        given = details["input"]
        shown = "a section" if isinstance(given, dict) else "a list" if isinstance(given, list) else repr(given)
        message, hint = f"{dotted}: {said}, not {shown[:60]}", _meaning(where)
    return problem(text.head, where, message, hint or "runctl card new CONFIG drafts a card with every key")


def _section(where: tuple[Any, ...]) -> type[Settings] | None:
    model: type[Settings] | None = Contract
    for part in where:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(str(part))
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        model = next((one for one in kinds if isinstance(one, type) and issubclass(one, Settings)), None)
    return model


def _fields(where: tuple[Any, ...]) -> list[str]:
    model = _section(where)
    return list(model.model_fields) if model else []


def _meaning(where: tuple[Any, ...]) -> str | None:
    model = _section(where[:-1])
    field = model.model_fields.get(str(where[-1])) if model else None
    return field.description if field else None
