"""The story of one attempt, line by line: its events, its measurements and what its program wrote, by time.

The program's own lines have the time that the marks beside the log say (`marks.py`), to the second. Where there are no
marks (an older run, a supervisor that was killed), they have none, and stand where the log was last written to.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from runctl import logs, record, status
from runctl.fields import held_out, number, text, whole
from runctl.marks import Marks
from runctl.shown import plain
from runctl.supervisor.summary import passed_over
from runctl.units import format_count

_LOOK_SECONDS = 0.5
_BAR_BYTES = 1 << 16
COUNTS = ("frames", "changes")  # how much a validation looked at, not what it found
_SILENT = ("trainer_started", "first_step")


@dataclass(frozen=True)
class Entry:
    """One line of the story. `kind` is event, metrics or log; `data` is the row, for a log line {"line": …}. `timed`
    is False for a line of which nobody knows when it was written."""

    time: float
    kind: str
    data: dict[str, Any]
    timed: bool = True

    def to_json(self) -> dict[str, Any]:
        at = self.time if self.timed else None
        return {"schema_version": record.SCHEMA_VERSION, "kind": self.kind, "time": at, **self.data}


@dataclass(frozen=True)
class Span:
    """A part of a story: from `since` to `until` (unix seconds); `last`: so many lines of each kind are enough; `hint`:
    lines of the log without these bytes (`logs.hint`) are not wanted."""

    since: float | None = None
    until: float | None = None
    last: int | None = None
    hint: bytes | None = None

    def holds(self, moment: float) -> bool:
        return (self.since is None or moment >= self.since) and (self.until is None or moment <= self.until)


class Journal:
    """A reader of one attempt that remembers how far it has read."""

    def __init__(self, run: record.RunDir, attempt: int) -> None:
        self.run, self.attempt = run, run.attempt(attempt)
        self._files = {"event": run.events, "metrics": run.metrics, "log": self.attempt.log}
        self._read = dict.fromkeys(self._files, 0)
        self._looked = dict.fromkeys(self._files, 0)  # there is no newline between the two
        self._said: set[str] = set()
        self._marks = Marks(self.attempt.log_times)

    @property
    def timed(self) -> bool:
        """Whether it is known when the lines of the log were written."""
        return len(self._marks) > 0 or not logs.size(self.attempt.log)

    @property
    def over(self) -> bool:
        """Whether the attempt has ended: nobody writes the rest of its log's last line."""
        return self.attempt.exit.exists() or self.run.summary.exists()

    def read(self, span: Span = Span(), *, following: bool = False) -> Iterator[Entry]:
        """What the files hold, by time; of what comes later `new` tells. The log's last line is given as it stands,
        unless it is followed (`following`) and may still grow."""
        begins = dict(self._read)
        ends = {kind: self._end(kind, kind == "log" and (not following or self.over)) for kind in self._files}
        rows = [self._rows(kind, self._lines(kind, begins[kind], ends[kind], span)) for kind in ("event", "metrics")]
        log = self._log(*self._part(span, begins["log"], ends["log"]), span)
        once = sorted(self._once(), key=_at)
        closing = [entry for entry in once if entry.data["event"] == "attempt_ended"]
        others = (entry for entry in once if entry not in closing)
        told = heapq.merge(*rows, others, log, key=_at)
        return (entry for entry in chain(told, closing) if entry.kind == "log" or span.holds(entry.time))

    def new(self) -> list[Entry]:
        """What was added since the last look, by time; a line that is not whole yet is left for the next."""
        if logs.size(self.attempt.log) < self._read["log"]:  # it was cut
            self._read["log"] = self._looked["log"] = 0
        self._marks = Marks(self.attempt.log_times)
        begins = dict(self._read)
        ends = {kind: self._end(kind, kind == "log" and self.over) for kind in self._files}
        found: list[Entry] = []
        for kind in ("event", "metrics"):
            found += self._rows(kind, _texts(logs.lines(self._files[kind], begins[kind], ends[kind])))
        found += self._once()
        return sorted([*found, *self._log(begins["log"], ends["log"])], key=_at)

    def unfinished(self) -> str:
        """What the log's last line shows while it has no end: a progress bar."""
        path, begin = self.attempt.log, max(self._read["log"], self._looked["log"] - _BAR_BYTES)
        return "".join(logs.shown(line) for _, line in logs.lines(path, begin, self._looked["log"]))

    def _end(self, kind: str, unfinished: bool) -> int:
        """Read on to the last whole line of a file, or to its end if an `unfinished` one counts; where that is."""
        path, looked = self._files[kind], self._looked[kind]
        size = logs.size(path)
        start = size if unfinished else logs.line_start(path, size, looked)
        self._read[kind] = start if unfinished or start > looked else self._read[kind]
        self._looked[kind] = size
        return self._read[kind]

    def _part(self, span: Span, begin: int, end: int) -> tuple[int, int]:
        """Of a part of the log, what is to be read. Where no marks tell, only a log that ended before is left out."""
        path, size = self.attempt.log, end
        if self._marks and self._marks[len(self._marks) - 1][0] <= size:  # else they are of a log that was cut
            end = end if span.until is None else min(end, self._marks.until(span.until))
            if span.since is not None:
                begin = max(begin, logs.line_start(path, min(end, self._marks.since(span.since))))
        elif not self._marks and span.since is not None and _written(path) < span.since:
            return end, end
        return (begin if span.last is None else max(begin, logs.begin_of(path, end, span.last))), end

    def _lines(self, kind: str, begin: int, end: int, span: Span) -> Iterable[bytes]:
        """The lines of events.jsonl or metrics.jsonl up to `end`, the last ones only where they are enough."""
        path = self._files[kind]
        if span.last is None or span.until is not None:
            return _texts(logs.lines(path, begin, end))
        found = (line for line in self._own_backwards(path, end))
        return reversed(list(islice(found, span.last)))

    def _own_backwards(self, path: Path, end: int) -> Iterator[bytes]:
        """The rows of this attempt, from the last to the first; those of earlier attempts stand before them all."""
        for line in logs.backwards(path, end):
            attempt = whole(logs.row(line), "attempt")
            if attempt == self.attempt.number:
                yield line
            elif attempt is not None and attempt < self.attempt.number:
                return

    def _rows(self, kind: str, lines: Iterable[bytes]) -> Iterator[Entry]:
        for line in lines:
            row = logs.row(line)
            if row.get("attempt") == self.attempt.number and self._is_new(row):
                yield Entry(number(row, "time") or 0.0, kind, row)

    def _is_new(self, row: dict[str, Any]) -> bool:
        """The end is told once: by exit.json, or where that could not be written by the last event."""
        if row.get("event") != "attempt_ended":
            return True
        new = "attempt_ended" not in self._said and not self.attempt.exit.exists()
        if new:
            self._said.add("attempt_ended")
        return new

    def _once(self) -> list[Entry]:
        """Files that are written once, as events: where a resume went on, and the end (which alone decides)."""
        found = []
        for event, path in (("resumed", self.attempt.resumed), ("attempt_ended", self.attempt.exit)):
            row = {} if event in self._said else record.read_object(path)
            if row:
                self._said.add(event)
                row |= {"event": event, "attempt": self.attempt.number}
                found.append(Entry(number(row, "ended") or _written(path), "event", row))
        return found

    def _log(self, begin: int, end: int, span: Span = Span()) -> Iterator[Entry]:
        path = self.attempt.log
        last, reach, at = _written(path), -1, None
        hint = span.hint
        for behind, line in logs.lines(path, begin, end):
            if hint is not None and hint not in line.lower() and b"\x1b" not in line:
                continue
            if behind > reach:
                reach, at = self._marks.reaching(behind) or (logs.NEVER, None)
            if at is None and not span.holds(last) and self._marks:  # since the last mark
                continue
            timed = at is not None or bool(self._marks)
            data = {"attempt": self.attempt.number, "line": logs.shown(line)}
            yield Entry(last if at is None else at, "log", data, timed)


def follow(run: record.RunDir, journal: Journal, *, later: bool = True) -> Iterator[Entry]:
    """What is added from now on, until the run has ended and all of it is read; after each look, as an entry of kind
    `unfinished`, what the log's last line shows. The attempts that follow belong to it, if wanted (`later`)."""
    while True:
        numbers = [entry.number for entry in run.attempts() if entry.number > journal.attempt.number]
        over = bool(numbers) or (not later and journal.over) or status.observe(run).over
        yield from journal.new()
        if numbers and later:
            journal = Journal(run, min(numbers))
            continue
        if over:
            return
        data = {"attempt": journal.attempt.number, "line": journal.unfinished()}
        yield Entry(time.time(), "unfinished", data)
        time.sleep(_LOOK_SECONDS)


def part(run: record.RunDir, number: int, since: float | None, until: float | None) -> tuple[int, int | None]:
    """From where to where an attempt's log lies in a span of time, whole lines; to None: to its end."""
    if since is None and until is None:
        return 0, None
    journal = Journal(run, number)
    return journal._part(Span(since, until), 0, logs.size(journal.attempt.log))


def heading(run: record.RunDir, number: int) -> str:
    """`attempt 2`, and why it was started if nobody asked for it."""
    restart = record.read_object(run.attempt(number).start).get("restart")
    return f"attempt {number}" + (f": {words}" if (words := text(restart, "words")) else "")


def clock(moment: float) -> str:
    """The local time; with its date if that is not today's. A damaged row may name a time that no calendar has."""
    try:
        then, today = time.localtime(moment), time.localtime()
    except (OverflowError, ValueError, OSError):
        return "(no such time)"
    same = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S", then)


def _texts(found: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    return (line for _, line in found)


def _at(entry: Entry) -> float:
    return entry.time


def sentence(entry: Entry, total_steps: int | None = None) -> str:
    """One line for people; "" for what says nothing new."""
    if entry.kind == "log":
        return str(entry.data["line"])
    if entry.kind == "metrics" and entry.data.get("source") == "output":
        return ""  # read from a line of the log, which stands there itself
    words = _event(entry.data) if entry.kind == "event" else _measured(entry.data, total_steps)
    return f"{clock(entry.time)} {plain(words)}" if words else ""


def _event(row: dict[str, Any]) -> str:
    name, step = text(row, "event") or "", whole(row, "step")
    if name in _SILENT:
        return ""
    if name == "attempt_started":
        return f"attempt {row.get('attempt')} started"
    if name == "resumed":
        return "; ".join([f"resumed at step {step or 0:,}", *passed_over(row)])
    if name == "checkpoint":
        return f"checkpoint at step {step:,}" if step is not None else "checkpoint"
    if name == "stop_requested":
        return f"asked to stop: {row.get('reason')}"
    if name in ("guard_tripped", "guard_unjudged"):
        did = f" ({row.get('do')})" if row.get("do") else ""
        return f"guard {row.get('guard')}{did}" + _because(row)
    if name == "secret_masked" and row.get("detector"):
        line = f", line {row.get('line')}" if row.get("line") is not None else ""
        return f"secret masked: {row.get('detector')} in {row.get('file')}{line}"
    if name == "signal":
        return f"signal {row.get('number')} to the {row.get('to')}"
    if name == "attempt_ended":
        return f"{row.get('state')}" + (f" at step {step:,}" if step else "") + _because(row)
    return name.replace("_", " ") + _because(row)


def _because(row: dict[str, Any]) -> str:
    return f": {row['reason']}" if row.get("reason") else ""


def _measured(row: dict[str, Any], total_steps: int | None) -> str:
    """`step 50/200  loss 1.23  1.2k ex/s`; of a validation, its metrics."""
    step = whole(row, "step")
    words = [f"step {step or 0:,}" + (f"/{total_steps:,}" if total_steps else "")]
    validated = {key.removeprefix("val/"): row[key] for key in row if held_out(key) and key.count("/") < 2}
    if validated:
        words.append("held-out")
    shown = validated or {"loss": row.get("train/loss", row.get("loss"))}
    shown = {key: value for key, value in shown.items() if key not in COUNTS and _is_figure(value)}
    words += [f"{key} {value:.4g}" for key, value in shown.items()]
    rate = number(row, "examples_per_second")
    words += [f"{format_count(rate)} ex/s"] if rate is not None else []
    return "  ".join(words)


def _is_figure(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 64)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
