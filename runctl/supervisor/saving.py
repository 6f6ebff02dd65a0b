"""A checkpoint that somebody asks for while the run trains: `attempts/<n>/save.json` in, a signal and an event out.

The asker writes the file and the supervisor takes it away, so that only the supervisor signals the trainer and every
request is on record. runctl's trainer saves on SIGUSR1 after the step that it is in. A program of one's own is only
signalled if its heartbeat says that it takes such requests (`runctl.should_checkpoint`): the signal ends any other.
"""

from __future__ import annotations

import signal
from typing import Any

from runctl import evidence, fields, record
from runctl.supervisor import hang
from runctl.supervisor.watchers import Scene, Watcher

SIGNAL = signal.SIGUSR1
_BY = 200


class Saving(Watcher):
    """Passes requests on; one that comes before the first step waits for it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._files = scene.run.attempt(scene.number)
        self._command = scene.config.get("task") == "command"
        self._trainer: evidence.Identity | None = None
        self._training = False
        self._stopping = ""

    def told(self, row: dict[str, Any]) -> None:
        event = row.get("event")
        if event == "trainer_started":
            self._trainer = evidence.from_json(row.get("trainer"))
        elif event == "first_step":
            self._training = True
        elif event == "stop_requested":
            self._stopping = fields.text(row, "reason") or "it was asked to stop"

    def look(self, seconds: float) -> None:
        if not (self._training or self._stopping) or not self._files.save.exists():
            return
        asked = record.read_object(self._files.save)
        self._files.save.unlink(missing_ok=True)
        name, by = fields.text(asked, "id"), (fields.text(asked, "by") or "somebody")[:_BY]
        if name is None or len(name) > _BY:
            return
        beat = record.read_object(self._files.heartbeat)
        facts = {"id": name, "by": by, "step": fields.whole(beat, "step")}
        if refused := self._signal(beat):
            self.scene.events.add("checkpoint_refused", **facts, reason=refused)
        else:
            self.scene.events.add("checkpoint_asked", **facts, reason=f"by {by}")

    def end(self) -> None:
        """What nobody will answer any more is taken away."""
        self._files.save.unlink(missing_ok=True)

    def _signal(self, beat: dict[str, Any]) -> str:
        """Ask the trainer; returns why that cannot be."""
        if self._stopping:
            return f"the run is ending: {self._stopping}"
        if beat.get("phase") == "ending":
            return "the run is ending by itself"
        if self._trainer is None:
            return "its trainer is not known"
        identity: evidence.Identity | None = self._trainer
        if self._command:
            handles = beat.get("handles")
            if not isinstance(handles, list) or "checkpoint" not in handles:
                return "its program does not take such requests: it never called runctl.should_checkpoint()"
            pid = fields.whole(beat, "pid") or 0
            if pid not in evidence.members(self._trainer.pid):
                return f"the process that reported ({pid}) is none of this attempt's"
            identity = evidence.identify(pid)
        if identity is None or not hang.catches(identity.pid, SIGNAL):
            return f"its trainer has no handler for {SIGNAL.name}"
        return "" if evidence.send(identity, SIGNAL) else "its trainer has ended"
