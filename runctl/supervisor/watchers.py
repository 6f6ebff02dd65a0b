"""What looks on while an attempt runs, and may be wrong without harm: a watcher that fails is off for the attempt, and
that is written down.

One file for each watcher; `WATCHERS` lists them. They are called in the supervisor's own process several times a
second and must be cheap: a look at most stats a file or reads what was appended.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runctl import record
from runctl.light import dataclass
from runctl.supervisor.events import Events, say


@dataclass(frozen=True)
class Scene:
    """What a watcher knows: the run, the attempt's number, run.json's content, and where events are added."""

    run: record.RunDir
    number: int
    content: dict[str, Any]
    events: Events

    @property
    def config(self) -> dict[str, Any]:
        found = self.content.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def project(self) -> Path:
        return Path(str(self.content.get("project") or self.run.path.parent.parent))


class Watcher:
    """Base of all watchers; each does what it needs."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def look(self, seconds: float) -> None:
        """A tick, `seconds` after the attempt began."""

    def told(self, row: dict[str, Any]) -> None:
        """An event was written."""

    def orphaned(self, group: int) -> None:
        """The trainer has ended; what it started in its process group and beyond may still live, and is ended next."""

    def end(self) -> None:
        """The trainer has ended; its files are whole."""

    def closed(self) -> None:
        """The attempt is over, and all its records are written."""


# a module of this package and its class, loaded where an attempt begins: they import this module themselves
WATCHERS = (
    "logmarks:LogMarks",
    "output:Output",
    "saved:Saved",
    "saving:Saving",
    "masks:Masks",
    "noticing:Noticing",
    "filling:Filling",
    "leftovers:Leftovers",
    "verifying:Verifying",
    "commits:Commits",
)


class Watchers:
    """All watchers of one attempt."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._on: list[Watcher] = []
        for spec in WATCHERS:
            self._guarded(_made, spec, scene, keep=True)
        scene.events.listeners.append(self.told)

    def look(self, seconds: float) -> None:
        for one in tuple(self._on):
            self._guarded(one.look, seconds, owner=one)

    def told(self, row: dict[str, Any]) -> None:
        for one in tuple(self._on):
            self._guarded(one.told, row, owner=one)

    def orphaned(self, group: int) -> None:
        for one in tuple(self._on):
            self._guarded(one.orphaned, group, owner=one)

    def end(self) -> None:
        for one in tuple(self._on):
            self._guarded(one.end, owner=one)

    def closed(self) -> None:
        for one in tuple(self._on):
            self._guarded(one.closed, owner=one)

    def _guarded(self, do: Callable[..., Any], *facts: Any, owner: Watcher | None = None, keep: bool = False) -> None:
        try:
            made = do(*facts)
        except Exception as error:
            name = type(owner).__name__ if owner else str(facts[0])
            if owner in self._on:
                self._on.remove(owner)
            say(f"{name} failed and is off for this attempt: {type(error).__name__}: {error}")
            return
        if keep:
            self._on.append(made)


def _made(spec: str, scene: Scene) -> Watcher:
    module, _, name = spec.partition(":")
    made: Watcher = getattr(importlib.import_module(f"{__package__}.{module}"), name)(scene)
    return made
