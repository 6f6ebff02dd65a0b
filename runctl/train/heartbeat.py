"""The trainer's sign of life: `attempts/N/heartbeat.json`, replaced at least every second by the loop itself.

Why not a thread: a thread would go on beating over a loop that hangs. A heartbeat that cannot be written (a full
disk) does not end the run; the next record that matters will, and says why.

`expect_next_seconds` is the longest recent silence between two beats of the phase, so that `status` does not take
a slow step for a hung one. It fades with every beat: one hiccup is forgotten, a slow step is always renewed.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runctl import record

INTERVAL_SECONDS = 1.0
FADING = 0.99


class Heartbeat:
    """Facts of the running attempt; `update` changes them, `beat` writes them once a second, `now` at once."""

    def __init__(
        self, attempt: record.Attempt, *, memory: Callable[[], int] | None = None, path: Path | None = None
    ) -> None:
        """`path` is that of a process that is not the first of several."""
        self._path = path or attempt.heartbeat
        self._written = float("-inf")
        self._looked = time.monotonic()
        self._silences: dict[str, float] = {}  # seconds, by phase
        self.memory = memory or peak_rss_bytes
        self.look: Callable[[], Mapping[str, Any]] = dict  # facts that are only asked for when they are written
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
            "expect_next_seconds": None,
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

    def refresh(self) -> None:
        """Ask for the facts that change with every step."""
        self.update(**self.look())

    def phase(self, name: str, message: str = "") -> None:
        """Enter a phase; written at once, so that what follows is seen even if it is long."""
        self._listen()
        self.update(phase=name, message=message)
        self._write()

    def beat(self) -> None:
        self._listen()
        if self._looked - self._written >= INTERVAL_SECONDS:
            self._write()

    def now(self) -> None:
        self._listen()
        self._write()

    def _listen(self) -> None:
        """Take the time since the last beat."""
        phase, now = self.facts["phase"], time.monotonic()
        self._silences[phase] = max(now - self._looked, FADING * self._silences.get(phase, 0.0))
        self._looked = now

    def _write(self) -> None:
        self._written = self._looked
        self.refresh()
        self.facts["time"] = time.time()
        self.facts["memory_bytes"] = self.memory()
        slowest = max(self._silences.values(), default=0.0)  # a phase that has just begun may be as slow as another
        self.facts["expect_next_seconds"] = round(self._silences.get(self.facts["phase"], slowest), 3)
        try:
            record.write_json(self._path, self.facts, durable=False)
        except OSError:
            for stale in self._path.parent.glob(f".{self._path.name}.*"):
                stale.unlink(missing_ok=True)


def peak_rss_bytes() -> int:
    """The largest resident size that this process has had (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
