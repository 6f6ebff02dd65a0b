"""The trainer's sign of life: `attempts/N/heartbeat.json`, replaced at least every second by the loop itself.

Why not a thread: a thread would go on beating over a loop that hangs. A heartbeat that cannot be written (a full
disk) does not end the run; the next record that matters will, and says why.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import Any

from runctl import record

INTERVAL_SECONDS = 1.0


class Heartbeat:
    """Facts of the running attempt; `update` changes them, `beat` writes them once a second, `now` at once."""

    def __init__(self, attempt: record.Attempt, *, memory: Callable[[], int] | None = None) -> None:
        self._path = attempt.heartbeat
        self._written = float("-inf")
        self.memory = memory or peak_rss_bytes
        self.facts: dict[str, Any] = {
            "schema_version": record.SCHEMA_VERSION,
            "time": 0.0,
            "pid": os.getpid(),
            "phase": "loading",
            "step": 0,
            "total_steps": None,
            "epoch": 0.0,
            "epochs": None,
            "loss": None,
            "examples_per_second": None,
            "memory_bytes": 0,
            "device": None,
            "data_source": None,
            "checkpoint": None,
            "tracking": {},
            "message": "",
        }

    def update(self, **facts: Any) -> None:
        unknown = facts.keys() - self.facts.keys()
        if unknown:
            raise KeyError(f"the heartbeat has no {', '.join(sorted(unknown))}")
        self.facts.update(facts)

    def phase(self, name: str, message: str = "") -> None:
        """Enter a phase; written at once, so that what follows is seen even if it is long."""
        self.update(phase=name, message=message)
        self.now()

    def beat(self) -> None:
        if time.monotonic() - self._written >= INTERVAL_SECONDS:
            self.now()

    def now(self) -> None:
        self._written = time.monotonic()
        self.facts["time"] = time.time()
        self.facts["memory_bytes"] = self.memory()
        try:
            record.write_json(self._path, self.facts, durable=False)
        except OSError:
            for stale in self._path.parent.glob(f".{self._path.name}.*"):
                stale.unlink(missing_ok=True)


def peak_rss_bytes() -> int:
    """The largest resident size that this process has had (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
