"""A run that is lost has nobody left to tell of it: whoever sees it first does, once.

`status`, `wait` and every other command that looks at a run come through here when they find a supervisor gone without
a record, or no sign of life of a machine that cannot be asked. The claim is a file of the attempt that only one of them
can make; a notice that could not be sent gives it back, so that the next look tries again, a few times.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runctl import record
from runctl.notices import sending, targets
from runctl.supervisor.verdict import SUPERVISOR_LOST

if TYPE_CHECKING:
    from runctl.status import RunStatus

MOST_TRIES = 5
_NAME = "lost.json"


def look(run: record.RunDir, found: RunStatus) -> None:
    """Tell of a run that has been looked at, if it is lost and nobody was told."""
    if concerns(found):
        tell(run, found)


def concerns(found: RunStatus) -> bool:
    """Whether a run's state was found by whoever looks, and written down by nobody."""
    if found.damage or not found.attempt:
        return False
    return found.state == "lost" or (
        found.state == "failed" and found.failure is None and SUPERVISOR_LOST in found.reason
    )


def tell(run: record.RunDir, found: RunStatus) -> bool:
    """Start a sender for a lost run, if somebody is to be told, can be told from here, and nobody was yet."""
    folder = run.attempt(found.attempt).path
    if (folder / _NAME).exists():
        return False
    wanted = [one for one in targets.told(targets.recorded(record.read_object(run.run)), "lost") if one.address]
    if not wanted or not _claim(run, found.attempt):
        return False
    row = {"event": "lost", "reason": found.reason[:1000], "step": found.step}
    with suppress(OSError):
        sender = sending.start(sending.payload(run.path, found.attempt, [{"kind": "lost", "row": row}], wanted))
        sender.returncode = 0  # its end is read from the events; Popen must neither wait for it nor complain
        return True
    give_back(run, found.attempt)
    return False


def give_back(run: record.RunDir, attempt: int) -> None:
    """Let the next one try, unless that was tried often enough."""
    rows = [row for row in record.read_lines(run.events) if row.get("event") == "notice" and row.get("kind") == "lost"]
    if sum(row.get("attempt") == attempt for row in rows) < MOST_TRIES:
        with suppress(OSError):
            (run.attempt(attempt).path / _NAME).unlink()


def _claim(run: record.RunDir, attempt: int) -> bool:
    path = run.attempt(attempt).path / _NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    with os.fdopen(descriptor, "w") as file:
        json.dump({"schema_version": record.SCHEMA_VERSION, "time": time.time(), "told_by": os.uname().nodename}, file)
    return True
