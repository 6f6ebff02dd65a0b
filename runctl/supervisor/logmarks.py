"""Marks when the log grew, once a second (`marks.py`); the log itself stays the program's own bytes."""

from __future__ import annotations

import time

from runctl import marks
from runctl.supervisor.events import say
from runctl.supervisor.watchers import Scene, Watcher

_SECONDS = 1.0


class LogMarks(Watcher):
    """Notes the size of the log and when it was first seen, of what came in one second only the last."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        attempt = scene.run.attempt(scene.number)
        self._log = attempt.log
        self._writer = marks.Writer(attempt.log_times)
        self._size = self._marked = 0
        self._seen = 0.0
        self._next = float("-inf")
        self._refused = False

    def look(self, seconds: float) -> None:
        try:
            size = self._log.stat().st_size
        except OSError:
            return
        if size < self._size:
            self._writer.clear()
            self._marked, self._next = 0, seconds
        if size != self._size:
            self._size, self._seen = size, time.time()
        if self._size != self._marked and seconds >= self._next:
            self._next = seconds + _SECONDS
            self._mark()

    def end(self) -> None:
        self.look(float("inf"))

    def _mark(self) -> None:
        """A disk that is full now may have room later: what could not be marked is, then."""
        try:
            self._writer.add(self._size, self._seen)
        except OSError as error:
            if not self._refused:
                say(f"the times of the log cannot be kept: {error}")
            self._refused = True
            return
        self._marked = self._size
