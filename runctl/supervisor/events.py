"""`events.jsonl`: what happened to a run, appended by the supervisor that holds its lock and by nobody else.

A row is {"time": unix seconds, "event": name, "attempt": number, …}; names and their further keys:

    attempt_started   supervisor (identity), from_step
    trainer_started   trainer (identity), group
    first_step        step
    checkpoint        step
    stop_requested    kind (asked, timeout, hang, guard), reason
    restart           reason (the attempt was started by the supervisor itself, compute.retries)
    guard_tripped     guard, do, step, reason, values
    guard_unjudged    guard, reason (its metric was never reported)
    guard_failed      reason (a guard could not be evaluated)
    signal            number, to
    attempt_ended     state, reason, exit_code, step
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from runctl import record


class Events:
    """The writer of one attempt's events. A full disk does not end the supervisor: it says so in its own log."""

    def __init__(self, run: record.RunDir, attempt: int) -> None:
        self._path = run.events
        self._attempt = attempt
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    def add(self, event: str, **facts: Any) -> OSError | None:
        """Append a row; returns why it could not be."""
        row = {"time": time.time(), "event": event, "attempt": self._attempt, **facts}
        failed = None
        try:
            record.append_line(self._path, row)
        except OSError as error:
            say(f"cannot append {event} to {self._path}: {error}")
            failed = error
        for listener in tuple(self.listeners):
            listener(row)
        return failed


def hold(run: record.RunDir, wait_seconds: float) -> int | None:
    """Take the run's lock for the life of this process; None if another supervisor keeps it."""
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)


def say(text: str) -> None:
    """A line in the supervisor's log (its stderr), if it can still be written."""
    try:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        sys.stderr.flush()
    except OSError:
        pass
