"""Notices of an attempt: each event that is news is handed to a sender, a process that outlives this one.

One sender at a time, so that news arrive in their order; at the end what is left is handed over at once. A guard that
trips again and again is told at most once in ten minutes, and how often in between.
"""

from __future__ import annotations

import subprocess
import time
from typing import Any

from runctl.notices import kinds, sending, targets
from runctl.supervisor import process, restarts
from runctl.supervisor.watchers import Scene, Watcher

GUARD_SECONDS = 600.0
MOST = 100  # of one attempt, its end not counted


class Noticing(Watcher):
    """`waiting` are the news that no sender has taken yet."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.targets = targets.recorded(scene.content)
        self.reachable = [one for one in self.targets if one.address is not None]
        self.unset = [one for one in self.targets if one.address is None]
        self.waiting: list[dict[str, Any]] = []
        self.sender: subprocess.Popen[bytes] | None = None
        self.told_at: dict[str, float] = {}
        self.held_back: dict[str, int] = {}
        self.count = 0

    def look(self, seconds: float) -> None:
        if self.waiting and (self.sender is None or self.sender.poll() is not None):
            self._send()

    def told(self, row: dict[str, Any]) -> None:
        ended = row.get("event") == "attempt_ended"
        kind = kinds.of(row, goes_on=ended and self._goes_on())
        if kind is None:
            return
        for one in targets.told(self.unset, kind):  # once for each: it will not be set any more
            self.unset.remove(one)
            self._failed(kind, one, f"{one.env} is not set in the environment of the run's supervisor")
        if not targets.told(self.reachable, kind) or (kind == "guard" and self._flaps(row)):
            return
        self.count += 1
        if self.count <= MOST or ended:
            self.waiting.append({"kind": kind, "row": kinds.short(row) | {"more": self._more(row)}})
        if ended or self.sender is None or self.sender.poll() is not None:
            self._send()

    def _send(self) -> None:
        news, self.waiting = self.waiting, []
        if not news:
            return
        data = sending.payload(self.scene.run.path, self.scene.number, news, self.reachable)
        try:
            self.sender = sending.start(data)
        except OSError as error:
            self._failed(news[-1]["kind"], None, f"the sender cannot be started: {error}")
            return
        process.spare(self.sender.pid)

    def _failed(self, kind: str, target: targets.Target | None, why: str) -> None:
        to = target.env if target else "anybody"
        reason = f"{kind}: could not be told by {to}: {why}"
        self.scene.events.add("notice", kind=kind, to=to, sent=False, tries=0, reason=reason)

    def _flaps(self, row: dict[str, Any]) -> bool:
        """Whether this guard was told of a short while ago; its end of the run is told in any case."""
        name, now = str(row.get("guard")), time.monotonic()
        if row.get("do") in ("stop", "kill") or now - self.told_at.get(name, float("-inf")) >= GUARD_SECONDS:
            self.told_at[name] = now
            return False
        self.held_back[name] = self.held_back.get(name, 0) + 1
        return True

    def _more(self, row: dict[str, Any]) -> int:
        return self.held_back.pop(str(row.get("guard")), 0) if row.get("event") == "guard_tripped" else 0

    def _goes_on(self) -> bool:
        """Whether the supervisor has claimed the attempt that follows by itself."""
        return restarts.claimed(self.scene.run, self.scene.number + 1)
