"""What a signature is for, and whether it still holds: the card's text, the effective config, the dataset.

A signature carries a digest of the three. What was signed is also kept, as `runcards/signed/NAME-DIGEST.json`, so that
a signature that no longer holds can say what changed since.
"""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runctl import config as configs
from runctl import record
from runctl.cards import tables
from runctl.cards.card import Card, digest
from runctl.cards.contract import Signature
from runctl.facts import Facts
from runctl.gathering import sweeps
from runctl.light import dataclass
from runctl.yamldoc import Document

SIGNED = "signed"
MOST_SAID = 6  # changes of one kind that are named
_CODE = ("*.py", "*.cu", "*.cpp", "*.sh", "requirements*.txt", "*.lock", "pyproject.toml")
_GIT_SECONDS = 5.0
_DATA = ("dataset.folder", "dataset.encoding_digest", "dataset.frames", "dataset.games")


@dataclass(frozen=True)
class Agreed:
    """What there is to agree to. `covers` are the digests of its parts."""

    text: str
    config: dict[str, Any]
    data: dict[str, Any]

    @property
    def covers(self) -> dict[str, str]:
        return {"text": digest(self.text), "config": digest(self.config), "data": digest(self.data)}

    @property
    def digest(self) -> str:
        return digest(self.covers)

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": record.SCHEMA_VERSION, "text": self.text, "config": self.config, "data": self.data}


@dataclass(frozen=True)
class Standing:
    """A signature and why it no longer holds; empty where it does. `replaced`: the same person gave another verdict
    since."""

    signature: Signature
    void: tuple[str, ...]
    replaced: bool = False

    @property
    def holds(self) -> bool:
        return not self.void and not self.replaced

    @property
    def words(self) -> str:
        """How it stands: a block blocks until who gave it takes it back, whatever has changed since."""
        block, since = self.signature.verdict == "block", "; ".join(self.void)
        if self.replaced:
            return "withdrawn" if block else "replaced by a later one"
        if block:
            return "holds" + (f", though changed since: {since}" if since else "")
        return f"void: {since}" if since else "holds"


def agreed(card: Card, facts: Facts, document: Document) -> Agreed:
    """What a signature of this card would be for now. A run's name is no part of it; whose config is not runctl's own
    is taken as it is written."""
    config = facts.get("config.whole")
    effective = configs.to_effective(config) if config is not None else dict(document.data or {})
    effective.pop("name", None)
    data = {name: facts.get(name) for name in _DATA if facts.get(name) is not None}
    return Agreed(card.text.agreed(), effective, data)


def standings(card: Card, now: Agreed) -> list[Standing]:
    """Every signature of a card, in order; of one person the last one counts."""
    signed = card.contract.signatures
    last = {one.by: index for index, one in enumerate(signed) if one.verdict != "comment"}
    return [
        Standing(one, tuple(_void(card, one, now)), one.verdict != "comment" and last[one.by] != index)
        for index, one in enumerate(signed)
    ]


def counting(found: list[Standing]) -> list[Standing]:
    """The last signature of each person that is a verdict: a comment takes nothing back."""
    return [one for one in found if one.signature.verdict != "comment" and not one.replaced]


def state(card: Card, found: list[Standing]) -> str:
    """A card in one word: `closed`, `blocked`, `agreed`, `void` (approved, and changed since), `draft`."""
    if card.contract.closed:
        return "closed"
    if refusal(card, found) is None:
        return "agreed"
    verdicts = {one.signature.verdict for one in counting(found)}
    return "blocked" if "block" in verdicts else "void" if "approve" in verdicts else "draft"


def mend(card: Card, found: list[Standing]) -> str:
    """The command after which a run may be launched, where `refusal` says why it may not."""
    if card.contract.closed:
        named = f"{card.name}-next"
        return f"runctl card new {card.contract.config} --name {named}, then set card: runcards/{named}.md"
    blocking = [one.signature.by for one in counting(found) if one.signature.verdict == "block"]
    if blocking:
        sign = f"runctl card sign {card.name} --as {blocking[0]} --verdict approve"
        return f"only {blocking[0]} can lift the block: {sign}"
    return f"runctl card sign {card.name} --as YOU --verdict approve"


def refusal(card: Card, found: list[Standing]) -> str | None:
    """Why a run may not be launched by this card; None where somebody approved, nobody blocks, and it is not closed."""
    if card.contract.closed:
        return f"{card.name} is closed (run {card.contract.closed_with or 'not said'}): draft a card"
    verdicts = counting(found)
    blocking = [one.signature for one in verdicts if one.signature.verdict == "block"]
    if blocking:
        return f"{blocking[0].by} blocks it" + (f": {blocking[0].comment}" if blocking[0].comment else "")
    approved = [one for one in verdicts if one.signature.verdict == "approve"]
    if not approved:
        return "nobody has approved it"
    if any(one.holds for one in approved):
        return None
    return f"the approval of {approved[-1].signature.by} no longer holds: {'; '.join(approved[-1].void)}"


def code_since(found: list[Standing], root: Path) -> str:
    """Which code has changed since the last approval that holds; empty where none has, or that cannot be told."""
    signed = [one.signature for one in counting(found) if one.holds and one.signature.verdict == "approve"]
    commit = signed[-1].code if signed else None
    if not commit:
        return ""
    git = ["git", "-C", str(root), "diff", "--name-only", "--relative", commit, "--", *_CODE]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    names = done.stdout.split("\n")[:-1] if done.returncode == 0 else []
    more = f" and {len(names) - MOST_SAID} more" if len(names) > MOST_SAID else ""
    return ", ".join(names[:MOST_SAID]) + more


def keep(card: Card, now: Agreed) -> Path:
    """Write down what is signed; the file is there already where another signed the same."""
    path = _kept(card, now.digest)
    if not path.exists():
        record.write_json(path, now.to_json())
    return path


def kept(card: Card, of: str) -> dict[str, Any] | None:
    """What was signed with that digest; None where it is not there, or is something else."""
    found = record.read_json(_kept(card, of))
    return found if isinstance(found, dict) and digest_of(found) == of else None


def _kept(card: Card, of: str) -> Path:
    return card.path.parent / SIGNED / f"{card.name}-{of[:12]}.json"


def _void(card: Card, one: Signature, now: Agreed) -> Iterator[str]:
    if one.digest == now.digest:
        return
    before = kept(card, one.digest)
    if before is None:
        changed = [name for name, found in now.covers.items() if not found.startswith(one.covers.get(name) or "-")]
        yield f"changed since: {', '.join(changed) or 'something'} (what was signed is not kept beside the card)"
        return
    yield from differences(before, now.to_json())


def digest_of(kept: Mapping[str, Any]) -> str:
    """The digest of something that was agreed, as kept."""
    return digest({name: digest(kept.get(name)) for name in ("text", "config", "data")})


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two states that were agreed, in words. Rows of tables follow the config: where that has
    changed, they are not said again."""
    said = False
    for name in ("config", "data"):
        old, new = sweeps.flat(before.get(name) or {}), sweeps.flat(now.get(name) or {})
        keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
        said = said or bool(keys)
        for key in keys[:MOST_SAID]:
            yield f"{key} {tables.value(old.get(key))} → {tables.value(new.get(key))}"
        if len(keys) > MOST_SAID:
            yield f"{len(keys) - MOST_SAID} more keys of the {name}"
    old_lines, new_lines = str(before.get("text")).splitlines(), str(now.get("text")).splitlines()
    words = [line for line in difflib.ndiff(old_lines, new_lines) if line[:2] in ("- ", "+ ") and line[2:].strip()]
    words = [line for line in words if not (said and line[2:].lstrip().startswith("|"))]
    for line in words[:MOST_SAID]:
        yield f"the card's text: {'without' if line[0] == '-' else 'now'} “{line[2:].strip()[:100]}”"
    if len(words) > MOST_SAID:
        yield f"{len(words) - MOST_SAID} more lines of the card"
