"""The guards of one attempt as the supervisor keeps them: new rows of metrics.jsonl, the heartbeat and the clock in,
trips out. Each file is read on from where it was left; the history of earlier attempts is read once.

A row of an earlier attempt counts up to the step from which the next one went on; what is run again counts once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runctl import record, spending
from runctl.fields import number, whole
from runctl.guards import defaults, words
from runctl.guards.evaluate import ENDING, Ceiling, Checkpoints, Dearer, Guard, Moment, Trip

MOST_TRIPS = 50  # of one guard in one attempt; a condition that flaps does not fill the record
_CHUNK_BYTES = 1 << 20  # read at one look
_HISTORY_BYTES = 64 << 20
_METRICS = ("compare", "nan", "spike", "plateau", "first", "chance", "drift")
KINDS = (*_METRICS, "checkpoint", "hours", "cost")


def listed(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The guards in a run.json; of one without a list, the defaults of its config."""
    config = run.get("config")
    given = run.get("guards")
    if not isinstance(given, list):
        config = config if isinstance(config, dict) else {}
        command = config.get("task") == "command"
        given = [{**one, "words": words.sentence(one, command)} for one in defaults.guards(config)]
    return [one for one in given if isinstance(one, dict) and isinstance(one.get("test"), dict)]


class Watch:
    """`spent_before` are the seconds of earlier attempts; `faults` says what could not be evaluated."""

    def __init__(self, run: record.RunDir, attempt: int, content: Mapping[str, Any], spent_before: float) -> None:
        self.run, self.attempt, self.spent_before = run, attempt, spent_before
        self.metrics: list[Guard] = []
        self.ticking: list[Checkpoints | Ceiling] = []
        self.faults: list[str] = []
        self.trips: dict[str, int] = {}
        for made in listed(content):
            if made.get("on"):
                try:
                    self._add(made)
                except (KeyError, TypeError, ValueError) as error:
                    self.faults.append(f"the guard {made.get('name')} cannot be read: {type(error).__name__}: {error}")
        self.tail = Tail(run.metrics)
        self.history: int | None = self.tail.offset
        self.beaten: tuple[Any, ...] = ()

    def _add(self, made: dict[str, Any]) -> None:
        kind = made["test"]["kind"]
        if kind in ("hours", "cost"):
            self.ticking.append(Ceiling(made, self._told(made), self._dearer(made["test"])))
        elif kind == "checkpoint":
            self.ticking.append(Checkpoints(made))
        elif kind == "first" and self._trained_before():
            return
        elif kind in _METRICS:
            self.metrics.append(Guard(made))
        else:
            raise ValueError(f"unknown kind {kind!r}")

    def _dearer(self, test: Mapping[str, Any]) -> Dearer | None:
        """By how much the machines of this attempt and of those before it differ in price from that of the launch."""
        if test["kind"] != "cost":
            return None
        base = float(test["usd_per_hour"])
        hour = spending.paid(self.run.attempt(self.attempt))
        more = 0.0 if hour is None else hour - base
        return Dearer(spending.dearer_usd(self.run, base, self.attempt), more, self.spent_before)

    def _told(self, made: Mapping[str, Any]) -> float:
        """The highest mark of this very ceiling that earlier attempts gave notice of; a resume may have raised it."""
        if self.attempt == 1:
            return 0.0
        rows = [row for row in record.read_lines(self.run.events) if row.get("event") == "guard_tripped"]
        own = [row.get("values") for row in rows if row.get("guard") == made.get("name")]
        limit = made["test"]["value"]
        return max((number(one, "mark") or 0.0 for one in own if number(one, "of") == limit), default=0.0)

    def _trained_before(self) -> bool:
        """Whether an earlier attempt has done a step: then the first value is long past."""
        earlier = (self.run.attempt(number) for number in range(1, self.attempt))
        return any((whole(record.read_object(one.heartbeat), "step") or 0) > 0 for one in earlier)

    def look(self, heartbeat: Mapping[str, Any], seconds: float, training: bool) -> list[Trip]:
        """What has tripped since the last look. `seconds` are this attempt's; `training`: its first step is done."""
        total = self.spent_before + seconds
        found: list[Trip | None] = []
        if self.metrics:
            for row in self.tail.rows():
                if row.get("attempt", self.attempt) == self.attempt:
                    self._recall(row)
                    found += self._fold(row, total)
            found += self._beat(heartbeat, total)
        step = whole(heartbeat, "step") if training else None
        saved = whole(heartbeat.get("checkpoint"), "step")
        for guard in self.ticking:
            if isinstance(guard, Ceiling):
                found.append(guard.tick(total, step))
            elif heartbeat.get("phase") != "ending":
                found.append(guard.tick(total, step, saved))
        return [trip for trip in found if trip is not None and self._counted(trip)]

    def never_judged(self) -> list[tuple[str, str]]:
        """Guards that saw no value in this attempt or before it, and the metric that they wait for."""
        found = ((guard.name, guard.missing_on()) for guard in self.metrics if guard.made.get("origin") != "default")
        return [(name, metric) for name, metric in found if metric]

    def _fold(self, row: Mapping[str, Any], seconds: float, heartbeat: bool = False) -> list[Trip | None]:
        moment = Moment(row, whole(row, "step"), number(row, "epoch"), seconds, heartbeat)
        return [guard.value(moment) for guard in self.metrics]

    def _beat(self, heartbeat: Mapping[str, Any], seconds: float) -> list[Trip | None]:
        """A heartbeat of a new step, as a row of what it says."""
        mark = (heartbeat.get("step"), heartbeat.get("loss"), str(heartbeat.get("nonfinite")))
        if not heartbeat or mark == self.beaten:
            return []
        self.beaten = mark
        return self._fold(heartbeat, seconds, heartbeat=True)

    def _counted(self, trip: Trip) -> bool:
        self.trips[trip.guard] = self.trips.get(trip.guard, 0) + 1
        return trip.do in ENDING or self.trips[trip.guard] <= MOST_TRIPS

    def _recall(self, row: Mapping[str, Any]) -> None:
        """Before the first row of this attempt: what earlier ones measured and nobody runs again."""
        if self.history is None:
            return
        end, self.history = self.history, None
        if not end:
            return
        firsts: dict[int, int] = {}
        for old in history(self.run.metrics, end):
            attempt, step = whole(old, "attempt"), whole(old, "step")
            if attempt is not None and step is not None and attempt < self.attempt:
                firsts[attempt] = min(step, firsts.get(attempt, step))
        firsts[self.attempt] = whole(row, "step") or 1
        went_on = {}
        for attempt, first in firsts.items():
            resumed = whole(record.read_object(self.run.attempt(attempt).resumed), "step")
            went_on[attempt] = first - 1 if resumed is None else min(resumed, first - 1)
        for old in history(self.run.metrics, end):
            attempt, step = whole(old, "attempt"), whole(old, "step")
            if attempt is None or step is None or attempt >= self.attempt:
                continue
            if step <= min(at for later, at in went_on.items() if later > attempt):
                self._fold(old, self.spent_before)  # its time is over: what it trips has been told
        for guard in self.metrics:
            guard.begin()


class Tail:
    """The whole rows of a JSON-lines file from where it ended when this was made, as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = self._size()
        self.rest = b""

    def rows(self) -> Iterator[dict[str, Any]]:
        size = self._size()
        if size < self.offset:  # cut or replaced: what is there now has been seen, or is another's
            self.offset, self.rest = size, b""
        if size == self.offset:
            return
        try:
            with record.open_file(self.path) as file:
                file.seek(self.offset)
                data = file.read(_CHUNK_BYTES)
        except OSError:
            return
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > _CHUNK_BYTES:
            self.rest = b""  # no row is that long
        yield from _parsed(lines)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def history(path: Path, end: int) -> Iterator[dict[str, Any]]:
    """The rows of a file up to a byte, one after the other; of a very long one its end."""
    try:
        with record.open_file(path) as file:
            start = max(0, end - _HISTORY_BYTES)
            file.seek(start)
            at = start
            for line in file:
                at += len(line)
                if at > end:
                    return
                if len(line) <= _CHUNK_BYTES:
                    yield from _parsed([line])
    except OSError:
        return


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
