"""The runs of a card, and what a run is judged by: what was agreed when it started, whatever the card says since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runctl import record, status
from runctl.cards import agreement, tables
from runctl.cards.card import Card
from runctl.cards.contract import Contract, Signature
from runctl.cards.text import head_of
from runctl.fields import number
from runctl.light import dataclass


@dataclass(frozen=True)
class Basis:
    """What a run is judged by. `agreed` is what had been signed when it started (text, config, data), None where nobody
    had; `contract` is that of it, else the card's at the launch. `said`: what is to be known of it, in sentences."""

    contract: Contract
    agreed: Mapping[str, Any] | None
    said: tuple[str, ...]


def begun(card: Card, root: Path) -> str | None:
    """The first run by this card of which anything could be seen: it goes on, or it has measured something. None while
    what is agreed may still be changed."""
    named = _within(card.path, root)
    for run in record.list_runs(root):
        about = record.read_object(run.run)
        if named not in (_noted(about).get("path"), _config(about).get("card")):
            continue
        if (run.metrics.exists() and run.metrics.stat().st_size) or not status.observe(run).over:
            return run.name
    return None


def basis(card: Card, run: record.RunDir, root: Path) -> Basis:
    """What this run is judged by. What the run's own record says of its card at the launch comes first; else it is what
    was signed before the run was made."""
    about = record.read_object(run.run)
    noted, before = _noted(about), list(_before(card, about))
    said = [
        f"{one.by}: {one.verdict} of {one.at[:16].replace('T', ' ')} is younger than the run, and no part of what was "
        "agreed for it"
        for one in card.contract.signatures
        if one not in before
    ]
    text, why = noted.get("text"), noted.get("refusal")
    if noted.get("path") == _within(card.path, root) and isinstance(text, str):
        launched = _contract(text)
        if why is None and launched is not None:
            return Basis(launched, {"text": text, "config": _config(about)}, tuple(said))
        if why is not None:
            said.append(f"when it was launched: {why}")
        fallback = launched or card.contract
    else:
        fallback = card.contract
    for one in reversed(before):
        kept = agreement.kept(card, one.digest) if one.verdict == "approve" else None
        if kept is None:
            continue
        if (contract := _contract(str(kept["text"]))) is None:
            break
        return Basis(contract, kept, tuple(said))
    if any(one.verdict == "approve" for one in before):
        said.append("what was signed is not kept beside the card: judged by what the card says")
    else:
        said.append("nobody had signed the card when the run started")
    return Basis(fallback, None, tuple(said))


def moved(then: Contract, now: Contract) -> Iterator[str]:
    """What the front matter says otherwise than what was agreed, key by key."""
    old, new = _plain(then), _plain(now)
    for key in old:
        if old[key] != new[key]:
            yield f"{key}: agreed was {_shown(old[key])}; the card now says {_shown(new[key])}, which nobody agreed to"


def body(text: str) -> str:
    """What was agreed on in words and tables, without its front matter."""
    head = head_of(text)
    if head is None:
        return text
    import yaml

    return text[len(yaml.safe_dump(head, sort_keys=True, allow_unicode=True)) :]


def _plain(contract: Contract) -> dict[str, Any]:
    from runctl.cards.contract import OWN

    return {key: value for key, value in contract.model_dump(mode="json").items() if key not in OWN}


def _shown(value: Any) -> str:
    """A part of the front matter in one line: of a list of conditions, the conditions."""
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value) or "none"
    if isinstance(value, dict):
        if "when" in value:
            return str(value["when"])
        return " ".join(f"{key} {tables.value(one)}" for key, one in value.items() if one not in (None, ""))
    return tables.value(value)


def _before(card: Card, about: Mapping[str, Any]) -> Iterator[Signature]:
    """The signatures that were there when a run was launched: by its record, and where that says nothing, by time."""
    there, created = _noted(about).get("signatures"), number(about, "created")
    launched = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if created is not None else None
    for one in card.contract.signatures:
        known = {"by": one.by, "at": one.at, "digest": one.digest}
        if known in there if isinstance(there, list) else launched is None or one.at <= launched:
            yield one


def _contract(text: str) -> Contract | None:
    try:
        return Contract.model_validate(head_of(text))
    except ValueError:
        return None


def _config(about: Mapping[str, Any]) -> dict[str, Any]:
    found = about.get("config")
    return {key: value for key, value in found.items() if key != "name"} if isinstance(found, dict) else {}


def _noted(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run's record says of its card."""
    found = about.get("card")
    return found if isinstance(found, dict) else {}


def _within(path: Path, root: Path) -> str:
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
