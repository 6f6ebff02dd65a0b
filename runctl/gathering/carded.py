"""What a config's run card says, as facts: the card, who agreed to it, and what differs from the baseline."""

from __future__ import annotations

from runctl.errors import Problem, UsageError
from runctl.facts import Facts
from runctl.project import Project
from runctl.yamldoc import Document

NONE = "the config names no card"


def derive(facts: Facts, document: Document, project: Project) -> None:
    """Put `card.problems`, `card.whole`, `card.refusal` and `card.changes`, or why not."""
    named = facts.get("card")
    if not isinstance(named, str) or not named.strip():
        for name in ("problems", "whole", "refusal", "changes"):
            facts.miss(f"card.{name}", NONE)
        return
    from runctl.cards import agreement, card, draft, text  # most configs name none

    path = project.root / named
    try:
        if not path.resolve().is_relative_to(project.root.resolve()):
            raise UsageError(f"{named} lies outside the project", hint="give its path from the project's root")
        found = card.load(path)
    except text.CardError as error:
        facts.put("card.problems", error.problems, "file")
    except UsageError as error:
        facts.put("card.problems", (Problem(error.message, named, hint=error.hint, rule="card"),), "file")
    else:
        facts.put("card.problems", (), "file")
        facts.put("card.whole", found, "file")
        now = agreement.agreed(found, facts, document)
        standings = agreement.standings(found, now)
        facts.put("card.digest", now.digest, "derived", named)
        facts.later("card.code_since", lambda: agreement.code_since(standings, project.root), "derived", "git")
        facts.put("card.standings", tuple(standings), "derived", named)
        facts.put("card.refusal", agreement.refusal(standings), "derived", named)
        baseline = found.contract.baseline
        try:
            changes = draft.against(facts, baseline, project)
        except UsageError as error:
            facts.miss("card.changes", error.message)
        else:
            if changes is None:
                facts.miss("card.changes", "the card names no baseline" if not baseline else "its config is foreign")
            else:
                facts.put("card.changes", tuple(changes), "derived", draft.named(baseline))
        return
    for name in ("whole", "refusal", "changes"):
        facts.miss(f"card.{name}", "the card is not in order")
