"""What a config is to be compared with: the baseline that lies beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from runctl.facts import Facts
from runctl.light import pattern

FACTS = ("training.lr", "run.step_examples")
_NAME = pattern(r"(?:^|[_\-.])(?:baseline|base|control)(?:[_\-.]|$)", re.IGNORECASE)
NONE = "no baseline lies beside it: give its folder, with a config that has baseline in its name"


def put(configs: Sequence[Facts]) -> None:
    """Put `baseline.name` and `baseline.FACT` into every config in whose folder exactly one is named as a baseline."""
    of_folder: dict[str, list[Facts]] = {}
    for facts in configs:
        folder, name = os.path.split(facts.path)
        if _NAME.search(name) and _NAME.search(Path(name).stem) and facts.get("config.kind") == "training":
            of_folder.setdefault(folder, []).append(facts)
    for facts in configs:
        found = of_folder.get(os.path.dirname(facts.path), [])
        if len(found) != 1 or found[0] is facts:
            facts.miss("baseline.name", NONE if not found else "it is the baseline, or there are several")
            continue
        against(facts, found[0], Path(found[0].path).name)


def against(facts: Facts, other: Facts, name: str) -> None:
    """Take `other` as the baseline of `facts`; `name` is what it is called in a message."""
    facts.put("baseline.name", name, "derived", other.path)
    for fact in FACTS:
        value = other.get(fact)
        if value is None:
            facts.miss(f"baseline.{fact}", f"{name}: {other.why(fact)}")
        else:
            facts.put(f"baseline.{fact}", value, "derived", name)
