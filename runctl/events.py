"""What happened to a run: the rows of its events.jsonl, all attempts, as they are or in words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from runctl import journal, logs, record, status
from runctl.fields import number, whole
from runctl.light import dataclass
from runctl.shown import plain

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Wanted:
    """Which rows: of these `names` (all, if none is given), of one attempt, not older than `after` (unix seconds)."""

    names: Sequence[str] = ()
    attempt: int | None = None
    after: float | None = None

    def fits(self, row: dict[str, Any]) -> bool:
        return (
            (not self.names or row.get("event") in self.names)
            and (self.attempt is None or row.get("attempt") == self.attempt)
            and (self.after is None or (number(row, "time") or 0.0) >= self.after)
        )


class Reader:
    """Reads a run's events and remembers how far; a torn or damaged line is passed over and counted."""

    def __init__(self, run: record.RunDir) -> None:
        self.run = run
        self.damaged = 0
        self._read = 0

    def new(self) -> list[dict[str, Any]]:
        """The rows that were added since the last look; a line that is not whole yet is left for the next."""
        data = b"".join(logs.read_from(self.run.events, self._read))
        end = data.rfind(b"\n") + 1
        self._read += end
        found = []
        for line in data[:end].split(b"\n")[:-1]:
            row = _row(line)
            if row is not None:
                found.append(row)
            self.damaged += row is None and bool(line.strip())
        return found

    def follow(self) -> Iterator[dict[str, Any]]:
        """What is added from now on, until the run has ended and all of it is read."""
        while True:
            found = status.observe(self.run)
            yield from self.new()
            if found.over and not found.leftover:
                return
            time.sleep(_LOOK_SECONDS)


def words(row: dict[str, Any]) -> str:
    """One line for people: when, in which attempt, what."""
    at, name, attempt = number(row, "time") or 0.0, row.get("event"), whole(row, "attempt")
    told = journal.sentence(journal.Entry(at, "event", row)).removeprefix(journal.clock(at)).strip()
    if name == "trainer_started":  # a story leaves these two out
        told = "the trainer was started"
    elif name == "first_step":
        step = whole(row, "step")
        told = "the first step is done" + (f": step {step:,}" if step is not None else "")
    before = "" if attempt is None or name == "attempt_started" else f"attempt {attempt}  "
    return plain(f"{journal.clock(at)}  {before}{told}")


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
