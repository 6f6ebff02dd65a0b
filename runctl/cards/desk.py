"""What is done with a card before its run: draft, check, sign, amend. Each writes the whole file or nothing."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runctl import code_version, preflight
from runctl import project as projects
from runctl.cards import agreement, draft, launched, tables
from runctl.cards import card as cards
from runctl.cards import text as texts
from runctl.cards.agreement import Agreed, Standing
from runctl.cards.card import Card
from runctl.cards.contract import OWN, Verdict
from runctl.errors import RefusedError, UsageError
from runctl.facts import Facts, Finding
from runctl.gathering import carded
from runctl.names import RUN_NAME
from runctl.preflight import Report
from runctl.project import Project

_GIT_SECONDS = 5.0


@dataclass(frozen=True)
class Read:
    """A card beside its config: what preflight says of it, what there is to agree to, and how the signatures stand."""

    card: Card
    project: Project
    report: Report
    agreed: Agreed | None
    standings: tuple[Standing, ...]

    @property
    def refusal(self) -> str | None:
        return agreement.refusal(self.card, list(self.standings))

    @property
    def state(self) -> str:
        return agreement.state(self.card, list(self.standings))

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with the card. A closed one is held to no config: the next run may have that."""
        return [] if self.card.contract.closed else [one for one in self.report.findings if about_card(one.rule)]

    @property
    def broken(self) -> list[str]:
        """Why card, config and signatures do not agree; empty where they do. Of a closed card: whether contract or
        results are not what they were when it was closed."""
        contract = self.card.contract
        if contract.closed:
            sealed = contract.closings[-1].sealed if contract.closings else None
            changed = sealed not in (None, seal(self.card.text))
            return ["its contract or its results were changed after it was closed"] * changed
        wrong = [one.message for one in self.findings if one.rule == "EX104" and one.severity == "error"]
        approved = [one for one in agreement.counting(list(self.standings)) if one.signature.verdict == "approve"]
        held = not approved or any(one.holds for one in approved)
        return [*wrong, *(() if held else approved[-1].void)]

    def to_json(self) -> dict[str, Any]:
        contract = self.card.contract
        signatures = [
            {**one.signature.model_dump(), "holds": one.holds, "void": list(one.void), "standing": one.words}
            for one in self.standings
        ]
        return {
            "path": str(self.card.path),
            "name": self.card.name,
            "contract": {**contract.model_dump(mode="json"), "signatures": signatures},
            "digest": self.agreed.digest if self.agreed else None,
            "state": self.state,
            "refusal": self.refusal,
            "broken": self.broken,
            "findings": [finding.to_json() for finding in self.findings],
        }


def about_card(rule: str) -> bool:
    """Whether a rule is about cards; a card says nothing of the others."""
    return rule in ("EX101", "EX102", "EX103", "EX104", "EX106", "EX107")


def seal(text: texts.Text) -> str:
    """The digest of what a closed card says: its contract, without the config's place, and its results."""
    head = {key: value for key, value in text.head.data.items() if key not in (*OWN, "config")}
    return cards.digest({"contract": cards.digest(repr(sorted(head.items()))), "results": _results(text)})


def _results(text: texts.Text) -> str:
    return text.block("results") if "results" in text.blocks else ""


def read(name: str) -> Read:
    """A card by path or name, with its config. Raises UsageError and CardError."""
    project = projects.load()
    card = cards.load(cards.find(name, project))
    return beside(card, projects.load(card.path))


def beside(card: Card, project: Project) -> Read:
    """A card with its config; where the config does not name the card, it is read as if it did."""
    config = project.root / card.contract.config
    if not config.exists():
        hint = f'where it was moved: runctl card amend {card.name} --config PATH --why "it was moved"'
        raise UsageError(f"{card.path}: its config {card.contract.config} is not there", hint=hint)
    named = Path(card.path).resolve().relative_to(project.root.resolve()).as_posix()
    facts, document = preflight.gather(config, preflight.Options((f"card={named}",)), project)
    report = preflight.check(facts, document)
    found = None if facts.get("config.problems") else agreement.agreed(card, facts, document)
    standings = tuple(agreement.standings(card, found)) if found else ()
    return Read(card, project, report, found, standings)


def new(config: Path, baseline: Sequence[str], name: str | None) -> Path:
    """Draft a card for a config. Raises UsageError where there is one already, or a baseline is no run."""
    project = projects.load(config)
    facts, _ = preflight.gather(config, None, project)
    if problems := facts.get("config.problems"):
        hint = f"runctl preflight {config} says what is wrong"
        raise UsageError(f"{config} is not valid: {problems[0].message}", hint=hint)
    chosen = name or str(facts.get("name") or config.stem)
    path = project.root / cards.FOLDER / f"{chosen}.md"
    if not RUN_NAME.fullmatch(chosen):
        raise UsageError(f"{chosen!r} cannot be a card's name", hint="letters, digits, '.', '_' and '-'")
    if path.exists():
        raise UsageError(f"{path} is there already", hint=f"--name NAME drafts another; runctl card show {chosen}")
    text = draft.text(chosen, config, facts, baseline, project)
    cards.of(texts.parse(text, str(path)), path).save()
    return cards.near(path)


def sign(name: str, by: str, verdict: Verdict, comment: str | None) -> Read:
    """Add a signature to a card. An approval of a card with faults is refused (RefusedError)."""
    found = read(name)
    if found.agreed is None:
        raise UsageError(f"{found.card.contract.config} is not valid, so that there is nothing to sign")
    wrong = [one for one in found.findings if one.severity == "error" and one.rule != "EX103"]
    if verdict == "approve" and wrong:
        raise RefusedError(f"{found.card.path} cannot be approved: {wrong[0].message}", hint=wrong[0].fix)
    if found.card.contract.closed:
        raise RefusedError(f"{found.card.name} is closed: its run is over", hint="draft a card for the next run")
    agreement.keep(found.card, found.agreed)
    entry = {
        "by": by,
        "verdict": verdict,
        "at": now(),
        "digest": found.agreed.digest,
        "covers": {name: one[:12] for name, one in found.agreed.covers.items()},
        "comment": comment,
        "identity": identity(found.project.root),
        "code": code_version.read(found.project.root).commit,
        "code_signed_by": commit_signer(found.project.root),
    }
    entry = {key: value for key, value in entry.items() if value is not None}
    signed = [one.model_dump(mode="json") for one in found.card.contract.signatures]
    signed = [{key: value for key, value in one.items() if value is not None} for one in signed]
    return _signed(found, [*signed, entry])


def _signed(found: Read, signatures: list[dict[str, Any]]) -> Read:
    text = found.card.text.with_section("signatures", signatures)
    read_again = beside(cards.of(text, found.card.path), found.project)
    status = "agreed" if read_again.refusal is None else "draft"
    if found.card.contract.status in ("draft", "agreed") and status != found.card.contract.status:
        text = text.with_section("status", status)
    made = shown(beside(cards.of(text, found.card.path), found.project))
    made.card.save()
    return made


def shown(found: Read) -> Read:
    """The same with the signatures written out in the card's own block, for who reads it where Markdown is shown."""
    if "sign-off" not in found.card.text.blocks:
        return found
    rows = [
        (
            one.signature.by,
            one.signature.verdict,
            one.signature.at[:16].replace("T", " "),
            one.words,
            one.signature.comment or "",
        )
        for one in found.standings
    ]
    head = ("who", "verdict", "when (UTC)", "", "said")
    content = tables.table(head, rows) if rows else draft.UNSIGNED.format(found.card.name)
    return beside(cards.of(found.card.text.with_block("sign-off", content), found.card.path), found.project)


def amend(name: str, by: str, why: str, config: Path | None = None) -> tuple[Read, tuple[str, ...]]:
    """Compute a card's tables anew and write down what changed since it was last agreed on; the signatures become void
    by that. Raises RefusedError once a run by the card has begun: then it is a deviation (`closing.deviate`). `config`:
    where its config lies now; that alone may be said at any time, and nothing is computed anew then."""
    if config is not None:
        moved(name, by, why, config)
    found = read(name)
    if config is not None and (found.card.contract.closed or launched.begun(found.card, found.project.root)):
        return found, ()
    if found.agreed is None:
        raise UsageError(f"{found.card.contract.config} is not valid", hint="mend the config first")
    started = launched.begun(found.card, found.project.root)
    if found.card.contract.closed or started:
        hint = f"runctl card deviate {found.card.name} --why … writes down what was done otherwise"
        said = "is closed" if found.card.contract.closed else f"has a run: {started} has begun"
        raise RefusedError(f"{found.card.name} {said}: what was agreed stays", hint=hint)
    facts = found.report.facts
    changes, baseline = _changes(facts), draft.named(found.card.contract.baseline)
    text = draft.refreshed(found.card.text, facts, changes, baseline)
    after = beside(cards.of(text, found.card.path), found.project)
    if after.agreed is None:
        raise UsageError(f"{found.card.contract.config} is not valid")
    before = last_agreed(found)
    differs = tuple(agreement.differences(before, after.agreed.to_json())) if before else ()
    entry = {"kind": "amended", "at": now(), "by": by, "why": why, "after": after.agreed.digest}
    entry["before"] = agreement.digest_of(before) if before else found.agreed.digest
    text = text.with_section("log", [*log_of(found.card), entry])
    if found.card.contract.status == "agreed":
        text = text.with_section("status", "draft")
    made = shown(beside(cards.of(text, found.card.path), found.project))
    made.card.save()
    return made, differs


def moved(name: str, by: str, why: str, config: Path) -> None:
    """Write down where a card's config lies now. Raises UsageError where it is not in the project."""
    project = projects.load()
    card = cards.load(cards.find(name, project))
    project = projects.load(card.path)
    if not config.is_file():
        raise UsageError(f"no such file: {config}", hint="--config is where the card's config lies now")
    old, new = card.contract.config, draft.relative(config, project.root)
    entry = {"kind": "amended", "at": now(), "by": by, "why": f"{why} (config {old} → {new})"}
    text = card.text.with_section("config", new).with_section("log", [*log_of(card), entry])
    cards.of(text, card.path).save()


def _changes(facts: Facts) -> list[draft.Change] | None:
    read = carded.of(facts)
    return None if read is None else read.known_changes


def last_agreed(found: Read) -> dict[str, Any] | None:
    """What was last signed, as kept beside the card."""
    for one in reversed(found.card.contract.signatures):
        kept = agreement.kept(found.card, one.digest)
        if kept is not None:
            return kept
    return None


def log_of(card: Card) -> list[dict[str, Any]]:
    """A card's log as it is written."""
    entries = [one.model_dump(mode="json") for one in card.contract.log]
    return [{key: value for key, value in one.items() if value is not None} for one in entries]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def identity(folder: Path) -> str | None:
    """Who git says is here: `Name <mail>`; None where it does not know."""
    name, mail = _git(folder, "config", "user.name"), _git(folder, "config", "user.email")
    return f"{name} <{mail}>" if name and mail else None


def commit_signer(folder: Path) -> str | None:
    """Who signed the commit that is checked out; None where it has no signature that git calls good."""
    verdict, _, signer = (_git(folder, "log", "-1", "--format=%G? %GS") or "").partition(" ")
    return signer or None if verdict in ("G", "U") else None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails."""
    git = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def someone() -> str:
    """Who asks, where nobody is named: the account's name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "someone"
