"""What a config's text says beside its values: comments, keys given twice, secrets; and the code that reads it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.facts import Facts
from runctl.gathering import secrets
from runctl.light import replace
from runctl.yamldoc import Document, Position, Written
from runctl.yamldoc import Path as Keys

if TYPE_CHECKING:
    from runctl.gathering.sources import Words

MOST_SECRETS = 50  # of a file that holds more, these tell enough


def read(facts: Facts, document: Document, source: Path | None) -> None:
    """Put `config.text`, `config.keys` (path → position), `config.duplicates`, `config.secrets` (what, where), and
    `source.words` with `source.folder` where code is given. What is secret is hidden in the document's lines."""
    facts.put("config.text", document.text, "file")
    facts.put("config.keys", document.keys, "file")
    facts.put("config.duplicates", tuple(document.duplicates), "file")
    _secrets(facts, document)
    if source is None:
        facts.miss("source.words", "no training code was given: --source DIR")
        return
    words = code(source)
    facts.put("source.words", words.names, "file", str(source))
    facts.put("source.read", words, "file", str(source))


def code(source: Path) -> Words:
    """The words of the training code, read once. Raises UsageError where there is none."""
    from runctl.gathering import sources  # most calls give no code

    return sources.words(source)


def _secrets(facts: Facts, document: Document) -> None:
    scalars = [(one.key, one.text) for one in facts.get("config.scalars", ())]
    found = tuple(islice(secrets.find(scalars, document.text), MOST_SECRETS))
    document.hidden = secrets.pieces(found) if found else ()
    facts.put("config.secrets", tuple((one, _position(one, facts, document)) for one in found), "file")
    facts.put("config.hidden", document.hidden, "file")


def _position(secret: secrets.Secret, facts: Facts, document: Document) -> Position | None:
    if secret.key is not None:
        return next((one.position for one in facts.get("config.scalars", ()) if one.key == secret.key), None)
    before = document.text[: secret.offset]
    return Position(document.file, before.count("\n") + 1, secret.offset - (before.rfind("\n") + 1) + 1)


def scalars(document: Document, overridden: dict[Keys, str]) -> tuple[Written, ...]:
    """Every scalar as written; an override takes the place of what it sets."""
    if document.straight and not overridden:
        return tuple(document.scalars.values())
    values = tuple(
        replace(one, value=_at(document.data, path)) for path, one in document.scalars.items() if path not in overridden
    )
    given = tuple(
        Written(".".join(map(str, path)), text, _at(document.data, path)) for path, text in overridden.items()
    )
    return values + given


def _at(data: Any, path: Keys) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
