"""A program's progress and metrics, read from its log by the patterns of `command.progress`.

It stands in for a program that does not report: it writes that attempt's heartbeat.json (`"source": "output"`) and rows
of metrics.jsonl, so that status, ETA, guards and hangs are those of any run. A program that reports itself is believed:
with its first heartbeat its output is only a log. At each look the work is bounded; of a program that prints more, the
newest lines count.
"""

from __future__ import annotations

import time

from runctl import record
from runctl.output import reader
from runctl.supervisor.events import say
from runctl.supervisor.watchers import Scene, Watcher

SOURCE = "output"
_LOOK_SECONDS = 1.0
_LEAST_EXPECTED = 150.0  # seconds; a program that prints each few minutes has not stalled
_MOST_BYTES = 1 << 17  # read at one look
_MOST_LINES = 500  # tried at one look
_MOST_ROWS = 20  # written at one look
_LONGEST_LINE = 1 << 14


class Output(Watcher):
    """Reads on where it was; off for a run without patterns, and once the program reports itself."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.files = scene.run.attempt(scene.number)
        section = scene.config.get("command") if scene.config.get("task") == "command" else None
        progress = section.get("progress") if isinstance(section, dict) else None
        patterns = progress.get("patterns") if isinstance(progress, dict) else None
        self.reader = reader.Reader([str(one) for one in patterns]) if isinstance(patterns, list) else None
        self.offset, self.rest, self.cut = 0, b"", False
        self.due = 0.0
        self.stamp = 0  # of the heartbeat that was written here
        self.first: tuple[float, int] | None = None
        self.heard, self.longest = 0.0, 0.0
        self.missed = 0  # bytes that nobody looked at
        self.lines = 0

    def look(self, seconds: float) -> None:
        now = time.monotonic()
        if self.reader is None or now < self.due:
            return
        self.due = now + _LOOK_SECONDS
        self._read(now)

    def orphaned(self, group: int) -> None:
        """The program has ended: all that is left, before the guards have their last look."""
        if self.reader is not None:
            self._read(time.monotonic(), ended=True)
        if self.reader is not None and not self.reader.matched and self.lines:
            said = f"none of the {self.lines:,} lines that it printed was read by command.progress"
            self.scene.events.add("progress_unread", reason=f"{said}: neither steps nor metrics are known")
        if self.missed:
            say(f"{self.missed:,} bytes of output came faster than they are read for progress")

    def _read(self, now: float, ended: bool = False) -> None:
        assert self.reader is not None
        data = self._new()
        if not data and not (ended and self.rest):
            return
        if self._reports_itself():
            self.reader = None
            return
        found, self.rest = reader.lines_of(self.rest + data)
        if ended and self.rest:
            found, self.rest = [*found, (self.rest.decode("utf-8", "replace"), False)], b""
        if len(self.rest) > _LONGEST_LINE:
            self.rest = self.rest[:_LONGEST_LINE]
        if self.cut and found:  # what was skipped ended within a line
            found, self.cut = found[1:], False
        self.lines += len(found)
        if self.heard and data:
            self.longest = max(self.longest, now - self.heard)
        self.heard = now
        self._write([row for row in self._rows(found) if row is not None])

    def _new(self) -> bytes:
        """What was appended since the last look; of more than can be read, the end."""
        try:
            size = self.files.log.stat().st_size
            if size < self.offset:  # cut by somebody
                self.offset, self.rest = size, b""
            if size == self.offset:
                return b""
            if size - self.offset > _MOST_BYTES:
                self.missed += size - self.offset - _MOST_BYTES
                self.offset, self.rest, self.cut = size - _MOST_BYTES, b"", True
            with record.open_file(self.files.log) as file:
                file.seek(self.offset)
                data = file.read(size - self.offset)
        except OSError:
            return b""
        self.offset += len(data)
        return data

    def _rows(self, lines: list[tuple[str, bool]]) -> list[reader.Row | None]:
        """The rows of the newest lines. Of a bar's many states within a look the last counts."""
        assert self.reader is not None
        rows: list[reader.Row | None] = []
        states: dict[tuple[str, ...], int] = {}
        for text, state in lines[-_MOST_LINES:]:
            row = self.reader.line(text)
            if row is None or not row.metrics:
                continue
            if state:
                if (key := tuple(row.metrics)) in states:
                    rows[states[key]] = None
                states[key] = len(rows)
            rows.append(row)
        return rows

    def _write(self, rows: list[reader.Row]) -> None:
        assert self.reader is not None
        now = time.time()
        for row in _chosen(rows):
            record.append_line(self.scene.run.metrics, row.to_json(self.scene.number, now))
        if not self.reader.matched:
            return
        if not self.stamp:
            by = ", ".join(self.reader.matched)
            self.scene.events.add("progress_read", reason=f"from its output, by the pattern {by}")
        facts = self.reader.facts()
        heartbeat = {
            "schema_version": record.SCHEMA_VERSION,
            "time": now,
            "pid": None,
            "source": SOURCE,
            "phase": "training",
            **facts,
            "steps_per_second": self._pace(facts["step"], now),
            "checkpoint": None,
            "expect_next_seconds": max(_LEAST_EXPECTED, 2 * self.longest),
            "message": "",
        }
        record.write_json(self.files.heartbeat, heartbeat, durable=False)
        self.stamp = self._stamp()

    def _pace(self, step: int | None, now: float) -> float | None:
        """Steps per second since the first line that named one."""
        if step is None:
            return None
        if self.first is None or step < self.first[1]:
            self.first = (now, step)
        since, first = self.first
        return (step - first) / (now - since) if now - since >= 1.0 and step > first else None

    def _reports_itself(self) -> bool:
        stamp = self._stamp()
        if not stamp or stamp == self.stamp:
            return False
        return record.read_object(self.files.heartbeat).get("source") != SOURCE

    def _stamp(self) -> int:
        try:
            return self.files.heartbeat.stat().st_mtime_ns
        except OSError:
            return 0


def _chosen(rows: list[reader.Row]) -> list[reader.Row]:
    """As many rows as are written at one look: the last of each kind first of all, then the newest."""
    if len(rows) <= _MOST_ROWS:
        return rows
    last = {tuple(row.metrics): index for index, row in enumerate(rows)}
    wanted = sorted(last.values(), reverse=True)[:_MOST_ROWS]
    others = [index for index in range(len(rows) - 1, -1, -1) if index not in set(wanted)]
    return [rows[index] for index in sorted([*wanted, *others[: _MOST_ROWS - len(wanted)]])]
