"""The story of one attempt, line by line: its events, its measurements and what its program wrote, by time.

The program's own lines have no time. They stand where the log was last written to, which is when they are read as
it grows (`follow`), and at the end of what the log tells where it is read at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import logs, record, status
from runctl.fields import number, text, whole
from runctl.supervisor.summary import passed_over
from runctl.units import format_count

_LOOK_SECONDS = 0.5
COUNTS = ("frames", "changes")  # how much a validation looked at, not what it found
_SILENT = ("trainer_started", "first_step")


@dataclass(frozen=True)
class Entry:
    """One line of the story. `kind` is event, metrics or log; `data` is the row, for a log line {"line": …}."""

    time: float
    kind: str
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": record.SCHEMA_VERSION, "kind": self.kind, "time": self.time, **self.data}


class Journal:
    """A reader of one attempt that remembers how far it has read."""

    def __init__(self, run: record.RunDir, attempt: int) -> None:
        self.run, self.attempt = run, run.attempt(attempt)
        self._files = {"event": run.events, "metrics": run.metrics, "log": self.attempt.log}
        self._read = dict.fromkeys(self._files, 0)
        self._said: set[str] = set()

    def new(self) -> list[Entry]:
        """What was added since the last look, by time; a line that is not whole yet is left for the next."""
        found = [entry for kind in ("event", "metrics") for entry in self._rows(kind)]
        files = (("resumed", self.attempt.resumed), ("attempt_ended", self.attempt.exit))
        found += [entry for event, path in files for entry in self._once(event, path)]
        return sorted([*found, *self._lines()], key=lambda entry: entry.time)

    def follow(self) -> Iterator[Entry]:
        """What is added from now on, until the run has ended and all of it is read."""
        while True:
            over = status.observe(self.run).over
            yield from self.new()
            if over:
                return
            time.sleep(_LOOK_SECONDS)

    def _rows(self, kind: str) -> Iterator[Entry]:
        for line in self._whole_lines(kind):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and row.get("attempt") == self.attempt.number and self._is_new(row):
                yield Entry(number(row, "time") or 0.0, kind, row)

    def _is_new(self, row: dict[str, Any]) -> bool:
        """The end is told once: by exit.json, or where that could not be written by the last event."""
        if row.get("event") != "attempt_ended":
            return True
        new = "attempt_ended" not in self._said and not self.attempt.exit.exists()
        if new:
            self._said.add("attempt_ended")
        return new

    def _once(self, event: str, path: Path) -> Iterator[Entry]:
        """A file that is written once, as an event: where a resume went on, and the end (which alone decides)."""
        row = {} if event in self._said else record.read_object(path)
        if row:
            self._said.add(event)
            row |= {"event": event, "attempt": self.attempt.number}
            yield Entry(number(row, "ended") or _written(path), "event", row)

    def _lines(self) -> Iterator[Entry]:
        path = self._files["log"]
        at = _written(path)
        for line in self._whole_lines("log"):
            shown = line.rstrip(b"\r").rpartition(b"\r")[2]  # a progress bar: only what it shows in the end
            yield Entry(at, "log", {"attempt": self.attempt.number, "line": shown.decode(errors="replace")})

    def _whole_lines(self, kind: str) -> list[bytes]:
        data = b"".join(logs.read_from(self._files[kind], self._read[kind]))
        end = data.rfind(b"\n") + 1
        if kind == "log" and (self.attempt.exit.exists() or self.run.summary.exists()):
            end = len(data)  # nobody will write the rest of its last line
        self._read[kind] += end
        lines = data[:end].split(b"\n")
        return lines if lines[-1] else lines[:-1]


def sentence(entry: Entry, total_steps: int | None = None) -> str:
    """One line for people; "" for what says nothing new."""
    if entry.kind == "log":
        return str(entry.data["line"])
    words = _event(entry.data) if entry.kind == "event" else _measured(entry.data, total_steps)
    return f"{_clock(entry.time)} {words}" if words else ""


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
    held_out = {key.removeprefix("val/"): row[key] for key in row if key.startswith("val/") and key.count("/") == 1}
    if held_out:
        words.append("held-out")
    shown = held_out or {"loss": row.get("train/loss")}
    shown = {key: value for key, value in shown.items() if key not in COUNTS and isinstance(value, int | float)}
    words += [f"{key} {value:.4g}" for key, value in shown.items()]
    rate = number(row, "examples_per_second")
    words += [f"{format_count(rate)} ex/s"] if rate is not None else []
    return "  ".join(words)


def _clock(moment: float) -> str:
    """The local time; with its date if that is not today's. A damaged row may name a time that no calendar has."""
    try:
        then, today = time.localtime(moment), time.localtime()
    except (OverflowError, ValueError, OSError):
        return "(no such time)"
    same = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S", then)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
