"""What a tripped guard does to an attempt: it is written down, and a checkpoint, a stop or a kill follows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from runctl import fields, record
from runctl.guards.evaluate import ENDING, Trip
from runctl.guards.watch import Watch
from runctl.light import replace
from runctl.supervisor.events import Events, say
from runctl.supervisor.verdict import Stop


class Guarding:
    """The guards of one attempt. A defect in them is written down and never ends a run."""

    def __init__(
        self, run: record.RunDir, number: int, content: Mapping[str, Any], spent_before: float, events: Events
    ) -> None:
        self.events = events
        self.files = run.attempt(number)
        self.saved: dict[str, Any] | None = None  # the last checkpoint that was found on the disk
        events.listeners.append(self._hear)
        self.watch: Watch | None = None
        try:
            self.watch = Watch(run, number, content, spent_before)
            self.faults = list(self.watch.faults)
        except Exception as error:
            self.faults = [f"all guards are off: {type(error).__name__}: {error}"]

    def look(self, heartbeat: Mapping[str, Any], seconds: float, training: bool) -> Stop | None:
        """Evaluate what is new; returns why the attempt must end, if a guard says so."""
        for fault in self.faults:
            self.events.add("guard_failed", reason=fault)
        self.faults = []
        ending = None
        for trip in self._trips(heartbeat, seconds, training):
            self._tell(trip)
            if trip.do == "checkpoint":
                self._ask(trip)
            if trip.do in ENDING and ending is None:
                ending = Stop("guard", f"guard {trip.guard}: {trip.message}", at_once=trip.do == "kill")
        return ending

    def _ask(self, trip: Trip) -> None:
        """Ask for a checkpoint as a person would; `saving` passes it on and writes down what becomes of it."""
        with suppress(OSError):
            if not self.files.save.exists():  # else one is on its way
                entry = {"id": f"guard-{time.time_ns()}", "by": f"guard {trip.guard}"}
                record.write_json(self.files.save, entry, durable=False)

    def tell_last(self, heartbeat: Mapping[str, Any], seconds: float, training: bool) -> None:
        """Write down what has tripped in the last rows of a trainer that ended by itself."""
        for trip in self._trips(heartbeat, seconds, training):
            self._tell(replace(trip, do="note" if trip.do in ENDING else trip.do))

    def end(self) -> None:
        """Say which guards never had anything to judge."""
        for name, metric in self.watch.never_judged() if self.watch else ():
            self.events.add("guard_unjudged", guard=name, reason=f"{metric} was never reported")

    def _hear(self, row: dict[str, Any]) -> None:
        step = fields.whole(row, "step")
        if row.get("event") == "checkpoint" and row.get("path") and step is not None:
            self.saved = {"step": max(step, (self.saved or {}).get("step", step))}

    def _trips(self, heartbeat: Mapping[str, Any], seconds: float, training: bool) -> list[Trip]:
        if self.saved is not None and not heartbeat.get("checkpoint"):
            heartbeat = {**heartbeat, "checkpoint": self.saved}
        try:
            return self.watch.look(heartbeat, seconds, training) if self.watch else []
        except Exception as error:
            say(f"the guards failed and are off for this attempt: {type(error).__name__}: {error}")
            self.events.add("guard_failed", reason=f"all guards are off: {type(error).__name__}: {error}")
            self.watch = None
            return []

    def _tell(self, trip: Trip) -> None:
        facts = {"guard": trip.guard, "do": trip.do, "step": trip.step, "reason": trip.message, "values": trip.values}
        self.events.add("guard_tripped", **facts)
