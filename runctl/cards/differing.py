"""A card against its config, and against what really ran, row by row of its tables."""

from __future__ import annotations

from runctl import changes, preflight, record
from runctl.cards import draft, tables
from runctl.cards.desk import Read
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.gathering import carded
from runctl.light import dataclass


@dataclass(frozen=True)
class Row:
    """One row of a table as the card says it, as the config says it and as it ran ("" where that is not asked)."""

    table: str
    name: str
    card: str
    config: str
    ran: str

    @property
    def differs(self) -> bool:
        return self.card != self.config or (bool(self.ran) and self.card != self.ran)


def rows(found: Read, run: record.RunDir | None = None) -> list[Row]:
    """Every row of the card's exact tables. Raises UsageError for a run without a config on record."""
    now = _tables(found, found.report.facts)
    then = _tables(found, _facts(found, run)) if run is not None else {}
    made = []
    for name in tables.EXACT:
        if name not in found.card.text.blocks or name == "changed":
            continue
        written, config, ran = (
            tables.rows(text) for text in (found.card.text.block(name), now[name], then.get(name, ""))
        )
        made += [
            Row(name, key, written.get(key, ""), config.get(key, ""), ran.get(key, "")) for key in {**written, **config}
        ]
    return made


def _tables(found: Read, facts: Facts) -> dict[str, str]:
    read = carded.of(facts)
    changes = None if read is None else read.known_changes
    return tables.blocks(facts, changes, draft.named(found.card.contract.baseline))


def _facts(found: Read, run: record.RunDir) -> Facts:
    config = record.content(run).get("config")
    if not isinstance(config, dict):
        raise UsageError(f"{run.name} has no config on record")
    document = changes.own(config, run.name)
    facts, _ = preflight.gather(document.file, preflight.Options(adapter="native"), found.project, document)
    return facts
