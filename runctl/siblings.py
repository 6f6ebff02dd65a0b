"""What configs say beside each other: put as facts into each, so that rules judge one config at a time."""

from __future__ import annotations

from collections.abc import Sequence

from runctl.facts import Facts
from runctl.yamldoc import Document


def compare(configs: Sequence[tuple[Facts, Document]]) -> None:
    """Put `siblings.*` into the facts of every config of one call."""
    if len(configs) < 2:
        for facts, _ in configs:
            facts.miss("siblings.paths", "only one config was given; give its folder to compare it with the others")
        return
    paths = tuple(facts.path for facts, _ in configs)
    for facts, _ in configs:
        facts.put("siblings.paths", paths, "derived", "the configs given")
