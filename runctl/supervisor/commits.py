"""What a run directory holds is made durable by the backend: after each checkpoint, and once an attempt is over.

On this machine that is nothing. A backend whose disk is a volume of a provider's commits it, which may take seconds:
so it is done beside the supervisor's own work, one at a time, and one that failed is told and done again with the next.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from runctl import backends, record
from runctl.fields import first_of, number, text
from runctl.supervisor.watchers import Scene, Watcher
from runctl.units import format_duration

MEASURED_EVERY_SECONDS = 30.0
LAST_SECONDS = 60.0  # for the commit of the end, and the one before it


class Commits(Watcher):
    """`wanted` counts what was asked for, `done` what was committed; a commit does all that was asked for before it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.backend = backends.load(str(scene.content.get("backend") or "local"))
        self.wanted = self.done = 0
        self.thread: threading.Thread | None = None
        self.failed: str | None = None
        self.measured_at = 0.0
        self.slow = False

    def told(self, row: dict[str, Any]) -> None:
        if row.get("event") == "checkpoint":
            self.wanted += 1

    def look(self, seconds: float) -> None:
        self._report()
        if seconds >= self.measured_at:
            self.measured_at = seconds + MEASURED_EVERY_SECONDS
            self._time()
        if self.wanted > self.done and self.thread is None:
            self._begin()

    def closed(self) -> None:
        """The last one is waited for: after it the machine may go away."""
        deadline = time.monotonic() + LAST_SECONDS
        self.wanted += 1
        while self.wanted > self.done and time.monotonic() < deadline:
            if self.thread is None:
                self._begin()
            if self.thread is not None:
                self.thread.join(max(0.0, deadline - time.monotonic()))
            if self._report():
                return
        if self.wanted > self.done:
            self._tell(f"the backend did not answer within {format_duration(LAST_SECONDS)}")

    def _time(self) -> None:
        """Whether saving took longer than there is time for it when the machine is taken back."""
        attempts = (self.scene.run.attempt(number) for number in range(self.scene.number, 0, -1))
        took = first_of(number(record.read_object(one.measured), "checkpoint_write_seconds") for one in attempts)
        compute = self.scene.config.get("compute")
        grace = backends.grace_of(text(compute, "backend") or "local", number(compute, "grace"))
        if took is not None and took > grace and not self.slow:
            self.slow = True
            words = f"a checkpoint takes {format_duration(took)}, and the end leaves {format_duration(grace)} for one"
            self.scene.events.add("save_too_slow", reason=f"{words}: it would be that of before (compute.grace)")

    def _begin(self) -> None:
        upto = self.wanted

        def work() -> None:
            try:
                self.backend.commit(self.scene.run)
                self.done = upto
            except Exception as error:
                self.failed = f"{type(error).__name__}: {error}"

        self.thread = threading.Thread(target=work, name="commit", daemon=True)
        self.thread.start()

    def _report(self) -> bool:
        """Take note of a commit that has ended; whether it failed."""
        if self.thread is None or self.thread.is_alive():
            return False
        self.thread, why, self.failed = None, self.failed, None
        if why is not None:
            self.done = self.wanted  # again with the next checkpoint, not a quarter of a second later
            self._tell(why)
        return why is not None

    def _tell(self, why: str) -> None:
        self.scene.events.add("commit_failed", reason=f"what the run has saved may not be durable yet: {why}")
