"""`remote.json`: where a run is on Modal, on this machine and on the volume, so that any machine can find it again.

    {"schema_version": 1, "backend": "modal", "launch": token of this launch or resume, "attempt": its first,
     "phase": "launching" | "launched" | "failed" | "closed", "time": …,
     "app": "ap-…", "function": "fu-…", "call": "fc-…", "page": the app's page,
     "volume": name, "environment": name or null, "modal": the client's version,
     "asked_for": {"gpu", "cpu", "memory_mib"}, "costs": of each attempt, once the run is closed (`costs`),
     "launcher": who launches (evidence), "problem": why a launch failed,
     "asked": {"time", "by", "how"} once an end was asked for,
     "seen": {"time", "call", "answer", "error", "app", "problems"}: what the service last said}

Each id is written before the next step is taken: a launcher that is killed leaves nothing that cannot be found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runctl import record

_writing = threading.RLock()


def read(run: record.RunDir) -> dict[str, Any]:
    return record.read_object(run.remote)


def update(run: record.RunDir, **facts: Any) -> dict[str, Any]:
    """Write facts into a run's `remote.json`; returns all of it."""
    with _writing:
        whole = read(run) | facts
        record.write_json(run.remote, whole)
        return whole


@contextmanager
def alone() -> Iterator[None]:
    """While several facts are read and written as one, by the threads of this process."""
    with _writing:
        yield
