"""Watch a run until it ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from runctl import record, status
from runctl.errors import Exit, WaitTimeout
from runctl.units import format_duration


def watch(
    run: record.RunDir, every_seconds: float = 0.5, timeout_seconds: float | None = None
) -> Iterator[status.RunStatus]:
    """The run's status again and again; the last one is that of its end. Raises WaitTimeout, the run goes on."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        found = status.observe(run)
        yield found
        if found.over and not found.leftover:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeout(f"{run.name} is still {found.state} after {format_duration(timeout_seconds or 0.0)}")
        time.sleep(every_seconds if deadline is None else min(every_seconds, max(0.0, deadline - time.monotonic())))


def wait(run: record.RunDir, timeout_seconds: float | None = None) -> status.RunStatus:
    """The status of a run's end; raises WaitTimeout."""
    return deque(watch(run, 0.2, timeout_seconds), maxlen=1)[0]


def exit_code(found: status.RunStatus) -> Exit:
    """What a command that followed a run to its end exits with."""
    return {"succeeded": Exit.OK, "killed": Exit.RUN_KILLED}.get(found.state, Exit.RUN_FAILED)
