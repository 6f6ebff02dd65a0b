"""A card against its config, and against what really ran: its tables row by row, and every key of the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runctl import changes, preflight, record
from runctl.cards import draft, launched, tables
from runctl.cards.desk import Read, last_agreed
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.gathering import carded, sweeps
from runctl.light import dataclass

CONFIG = "config"  # the name of the "table" of keys


@dataclass(frozen=True)
class Row:
    """One row of a table, or one key of the config: as the card says it, or as it was signed; as the config says it;
    and as it ran. "" where that is not known or not asked."""

    table: str
    name: str
    card: str
    config: str
    ran: str

    @property
    def differs(self) -> bool:
        said = [one for one in (self.card, self.config, self.ran) if one]
        return any(tables.otherwise(one, other) for one in said for other in said)


def rows(found: Read, run: record.RunDir | None = None) -> list[Row]:
    """Every row of the card's exact tables, and every key of the config. A closed card is held to no config, only to
    what ran. Raises UsageError for a run without a config on record."""
    return [*_tabled(found, run), *_keyed(found, run)]


def _tabled(found: Read, run: record.RunDir | None) -> Iterator[Row]:
    now = {} if found.card.contract.closed else _tables(found, found.report.facts)
    then = _tables(found, _facts(found, run)) if run is not None else {}
    for name in tables.EXACT:
        if name not in found.card.text.blocks or name == "changed":
            continue
        card, config, ran = (
            tables.rows(text) for text in (found.card.text.block(name), now.get(name, ""), then.get(name, ""))
        )
        for key in card:
            yield Row(name, key, card[key], config.get(key, ""), ran.get(key, ""))


def _keyed(found: Read, run: record.RunDir | None) -> Iterator[Row]:
    """Every key of the effective config: as signed, as it is now, as it ran."""
    signed = last_agreed(found)
    if run is not None and (basis := launched.basis(found.card, run, found.project.root)).agreed is not None:
        signed = dict(basis.agreed)
    now = None if found.card.contract.closed or found.agreed is None else found.agreed.config
    sides = [None if signed is None else signed["config"], now, None if run is None else _config(run)]
    flat = [None if one is None else sweeps.flat(one) for one in sides]
    for key in dict.fromkeys(key for one in flat if one is not None for key in one if key != "name"):
        yield Row(CONFIG, key, *("" if one is None else tables.value(one.get(key)) for one in flat))


def texts(found: Read) -> list[str]:
    """What differs besides, in words: budgets, and what of the text was changed since it was signed."""
    named = [f"{row.name} {row.card}" for row in rows(found) if row.differs]
    return [one for one in found.broken if not any(one.startswith((name, f"says {name}")) for name in named)]


def _tables(found: Read, facts: Facts) -> dict[str, str]:
    read = carded.of(facts)
    known = None if read is None else read.known_changes
    return tables.blocks(facts, known, draft.named(found.card.contract.baseline))


def _config(run: record.RunDir) -> Mapping[str, Any]:
    config = record.content(run).get("config")
    if not isinstance(config, dict):
        raise UsageError(f"{run.name} has no config on record")
    return config


def _facts(found: Read, run: record.RunDir) -> Facts:
    document = changes.own(_config(run), run.name)
    facts, _ = preflight.gather(document.file, preflight.Options(adapter="native"), found.project, document)
    return facts
