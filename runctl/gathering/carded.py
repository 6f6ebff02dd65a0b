"""What a config's run card says: the card, who agreed to it, and what differs from the baseline. Read when a rule or a
launch asks for it: an estimate does not."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.errors import Problem, UsageError
from runctl.facts import Facts, NotChecked
from runctl.project import Project
from runctl.yamldoc import Document

if TYPE_CHECKING:
    from runctl.cards.agreement import Agreed, Standing
    from runctl.cards.card import Card

NONE = "the config names no card"


def derive(facts: Facts, document: Document, project: Project) -> None:
    """Put `card.read`, a `Reading`, or that the config names no card."""
    named = facts.get("card")
    if facts.get("config.problems"):
        return
    if isinstance(named, str) and named.strip():
        facts.later("card.read", lambda: Reading(facts, document, project, named), "file", named)
    else:
        facts.miss("card.read", NONE)


def of(facts: Facts) -> Reading | None:
    """The card of a config; None where it names none."""
    found: Reading | None = facts.get("card.read")
    return found


class Reading:
    """A card beside its config; each part is made when it is asked for. `problems` are what is wrong with the card: of
    one that has any, nothing else is known."""

    def __init__(self, facts: Facts, document: Document, project: Project, named: str) -> None:
        self._facts, self._document, self._project, self.named = facts, document, project, named
        self._card: Card | None = None
        self.problems: tuple[Problem, ...] = ()
        self._read(project.root / named)

    def _read(self, path: Path) -> None:
        from runctl.cards import card, text

        try:
            if not path.resolve().is_relative_to(self._project.root.resolve()):
                raise UsageError(f"{self.named} lies outside the project", hint="give its path from the project's root")
            self._card = card.load(path)
        except text.CardError as error:
            self.problems = error.problems
        except UsageError as error:
            self.problems = (Problem(error.message, self.named, hint=error.hint, rule="card"),)

    @property
    def card(self) -> Card:
        """Raises NotChecked where the card is not in order."""
        if self._card is None:
            raise NotChecked("the card is not in order")
        return self._card

    @cached_property
    def agreed(self) -> Agreed:
        from runctl.cards import agreement

        return agreement.agreed(self.card, self._facts, self._document)

    @cached_property
    def standings(self) -> list[Standing]:
        from runctl.cards import agreement

        return agreement.standings(self.card, self.agreed)

    @cached_property
    def refusal(self) -> str | None:
        """Why the run may not be launched by this card; None where it may."""
        from runctl.cards import agreement

        return agreement.refusal(self.card, self.standings)

    @property
    def mend(self) -> str:
        """What to do about `refusal`."""
        from runctl.cards import agreement

        return agreement.mend(self.card, self.standings)

    @cached_property
    def code_since(self) -> str:
        """Which code changed since the card was approved; empty where none did."""
        from runctl.cards import agreement

        return agreement.code_since(self.standings, self._project.root)

    @cached_property
    def baseline(self) -> str:
        return (self.card.contract.baseline or [""])[0]

    @cached_property
    def changes(self) -> list[tuple[str, Any, Any]]:
        """The keys in which the config differs from the baseline. Raises NotChecked where that is unknown."""
        from runctl.cards import draft

        try:
            found = draft.against(self._facts, self.card.contract.baseline, self._project)
        except UsageError as error:
            raise NotChecked(error.message) from None
        if found is None:
            raise NotChecked("the card names no baseline" if not self.baseline else "the config is another trainer's")
        return found

    @property
    def known_changes(self) -> list[tuple[str, Any, Any]] | None:
        """The same; None where it is unknown."""
        try:
            return self.changes
        except NotChecked:
            return None
