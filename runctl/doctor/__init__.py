"""Is this machine fit for runs: what is here, what of it works, and what to do about the rest.

Nothing is taken on trust that can be tried: locks, renames and links are made in the folder of the runs, torch is
imported. What is heavy or may hang happens in a child with a deadline. Credentials are looked for, never read out.

A check is a function that takes the project's root and yields what it found. A defect in one is a finding, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runctl.light import asdict, dataclass

OK, WARN, BAD = "ok", "warn", "bad"
STATES = (OK, WARN, BAD)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `seen` is what is so, `advice` what to do, "" where nothing is to be done."""

    group: str
    name: str
    state: str
    seen: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Look = Callable[[Path], Iterator[Check]]


def examine(project: Path) -> Iterator[Check]:
    """All checks, in the order in which they are told."""
    from runctl.doctor import environment, machine, place

    looks: tuple[tuple[str, tuple[Look, ...]], ...] = (
        ("environment", environment.LOOKS),
        ("runs", place.LOOKS),
        ("machine", machine.LOOKS),
    )
    for group, ones in looks:
        for look in ones:
            try:
                yield from look(project)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                yield Check(group, look.__name__, WARN, f"could not be looked at: {said}", "this is a defect of runctl")
