"""`events.jsonl`: what happened to a run, appended by the supervisor that holds its lock; how
notices and a last search for secrets went, by the processes that it leaves behind for them.

A row is {"time": unix seconds, "event": name, "attempt": number, …}; names and their further keys:

    attempt_started   supervisor (identity), from_step
    trainer_started   trainer (identity), group
    first_step        step
    checkpoint        step; of one found on the disk its path
    checkpoint_asked  id, by, step, reason (somebody asked for one now, and the trainer was told)
    checkpoint_refused  id, by, step, reason
    disk_filling      free_bytes, full_in_seconds, ends_in_seconds, reason
    disk_eased        free_bytes, reason
    pruned            paths, reason (by `runctl prune`, under the run's lock)
    progress_read     reason (the program does not report: it is read from its output, and by which patterns)
    progress_unread   reason (it ended, and its patterns had matched nothing)
    changed           reason, by (resume, out of memory), changes, digest_before, digest_after (of the config)
    resume_verified   step, from_step, reason; or resume_doubtful (the loss or step does not go on where it was)
    stop_requested    kind (asked, preempted, timeout, hang, guard), reason
    restart           reason (the attempt was started by the supervisor itself, compute.retries)
    guard_tripped     guard, do, step, reason, values
    guard_unjudged    guard, reason (its metric was never reported)
    guard_failed      reason (a guard could not be evaluated)
    signal            number, to
    secret_masked     file, line, detector, count (what was hidden in it; by the sweep after the end too)
    secrets_unchecked file, bytes (the log grew faster than it could be looked through)
    notice            kind, to, sent, tries, reason (by the sender, which may outlive the supervisor)
    commit_failed     reason (the backend could not make durable what was saved)
    save_too_slow     reason (a checkpoint takes longer than the grace)
    left_behind       reason (processes that outlived the trainer were ended, shared memory removed)
    attempt_ended     state, reason, exit_code, step
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runctl import evidence, record


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


def taken(run: record.RunDir, number: int) -> str:
    """Why an attempt must not be begun although the lock was free: it has ended, or a supervisor of the run lives (its
    lock was deleted). "" if neither."""
    if isinstance(record.read_json(run.attempt(number).exit), dict):
        return f"attempt {number} of {run.name} has ended already; resume the run for another one"
    started = [row for row in record.read_lines(run.events) if row.get("event") == "attempt_started"]
    for one in filter(None, (evidence.from_json(row.get("supervisor")) for row in started)):
        if one.pid != os.getpid() and evidence.life(one) is evidence.Life.ALIVE:
            return f"{run.name} has another supervisor (process {one.pid}); attempt {number} was not started"
    return ""


def sign(lock: int) -> None:
    """Write into the lock who holds it: where events.jsonl is lost, `status` still knows which process to look at."""
    own = evidence.identify()
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(own.to_json() if own else None).encode(), 0)


def say(text: str) -> None:
    """A line in the supervisor's log (its stderr), if it can still be written."""
    try:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        sys.stderr.flush()
    except OSError:
        pass
