"""What several rules ask about the length of a run."""

from __future__ import annotations

from runctl.facts import Facts

_LENGTHS = ("training.steps", "training.micro_steps", "training.epochs", "training.samples", "training.tokens")


def overridden(facts: Facts) -> bool:
    """Whether the length comes from `--set`: the config is tried, and the rest of it was meant for a longer run."""
    return any((source := facts.source(name)) and source.kind == "override" for name in _LENGTHS)


def written(facts: Facts) -> str:
    """The fact under which the length is written, for the place of a finding."""
    return facts.place(*(name for name in _LENGTHS if facts.source(name)), "run.steps")
