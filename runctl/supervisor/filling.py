"""The disk of a run, looked ahead: will it be full before the run ends?

Two things take room. Checkpoints, of a known size and cadence, up to as many as are kept and one that is being written;
and everything else on the disk (logs, other runs, other people), of which only the pace is known. Together with the
time that the run still takes they say when nothing will be left. Quotas are not in what a file system says of itself:
where one holds, its error says so (`causes.py`), not this.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

from runctl import fields, record
from runctl.light import dataclass
from runctl.supervisor import summary
from runctl.supervisor.watchers import Scene, Watcher
from runctl.units import counted, format_bytes, format_duration

EVERY_SECONDS = 15.0
WINDOW_SECONDS = 1800.0
LEAST_SECONDS = 60.0  # of samples, before a pace is one
HORIZON_SECONDS = 86400.0  # of a run that does not say when it ends
_FEW_INODES = 1000
_SOONER = 0.5  # told again once it comes in half the time
_EASED = 1.5


@dataclass(frozen=True)
class Sample:
    """`free` bytes on the disk at a time; `own` of the rest are the run's checkpoints, `log` its log."""

    at: float
    free: int
    own: int
    log: int


@dataclass(frozen=True)
class Saves:
    """The checkpoints to come: of so many bytes each, `missing` until as many are there as are ever at once, the next
    in `next_in` seconds and one each `cadence` (None: not known when)."""

    bytes: int
    missing: int
    next_in: float = 0.0
    cadence: float | None = None


def pace(samples: list[Sample]) -> float:
    """Bytes a second that go to anything but the run's checkpoints. Only what goes on counts: the lower of the whole
    time and of its second half."""
    if not samples or samples[-1].at - samples[0].at < LEAST_SECONDS:
        return 0.0
    half = next(one for one in samples if one.at >= (samples[0].at + samples[-1].at) / 2)
    rates = []
    for first in (samples[0], half):
        seconds = samples[-1].at - first.at
        taken = (first.free + first.own) - (samples[-1].free + samples[-1].own)
        rates.append(taken / seconds if seconds > 0 else 0.0)
    return max(0.0, min(rates))


def full_in(free: int, per_second: float, saves: Saves | None) -> float | None:
    """Seconds until nothing is left; 0.0 if the next checkpoint does not fit, None if room is left for good."""
    taken = 0
    if saves is not None:
        for number in range(saves.missing):
            at = saves.next_in + number * (saves.cadence or 0.0)
            if per_second > 0 and (runs_out := (free - taken) / per_second) < at:
                return runs_out
            taken += saves.bytes
            if taken + per_second * at > free:
                return at if number else 0.0
    return (free - taken) / per_second if per_second > 0 else None


class Filling(Watcher):
    """Writes `disk_filling` once it is foreseen, again when it comes much sooner, `disk_eased` when it is averted."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._files = scene.run.attempt(scene.number)
        section = scene.config.get("checkpoint")
        kept = (fields.whole(section, "keep_last") or 1) + (fields.whole(section, "keep_best") or 0)
        self._kept = kept if scene.config.get("task") != "command" else None
        self._every = _seconds(fields.text(section, "every"))
        self._samples: deque[Sample] = deque()
        self._saved: deque[float] = deque(maxlen=5)
        self._first: tuple[float, int] | None = None
        self._next = 0.0
        self._told: float | None = None

    def told(self, row: dict[str, Any]) -> None:
        if row.get("event") == "checkpoint":
            self._saved.append(time.monotonic())
            self._next = 0.0  # it has a size now

    def look(self, seconds: float) -> None:
        if seconds < self._next:
            return
        self._next = seconds + EVERY_SECONDS
        disk = self.disk()
        if disk is None:
            return
        free, inodes = disk
        whole = summary.checkpoints(self.scene.run) if self._kept is not None else []
        own = sum(one["bytes"] for one in whole)
        self._samples.append(Sample(seconds, free, own, _size(self._files.log)))
        while self._samples[-1].at - self._samples[0].at > WINDOW_SECONDS:
            self._samples.popleft()
        left = self._left(seconds)
        saves = self._saves(whole, left)
        self._judge(free, inodes, saves, left)

    def disk(self) -> tuple[int, int | None] | None:
        """(free bytes, free inodes) of the run's disk; None where it does not say."""
        try:
            found = os.statvfs(self.scene.run.path)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None

    def _judge(self, free: int, inodes: int | None, saves: Saves | None, left: float | None) -> None:
        per_second = pace(list(self._samples))
        soon = full_in(free, per_second, saves)
        few = inodes is not None and inodes < _FEW_INODES
        until = HORIZON_SECONDS if left is None else left
        if few:
            soon = 0.0
        if soon is not None and soon <= until:
            if self._told is None or soon < _SOONER * self._told:
                self._told = max(soon, EVERY_SECONDS)
                words = f"only {counted(inodes or 0, 'inode')} left" if few else _words(free, soon, per_second, saves)
                ends = "" if left is None else f"; the run ends in about {format_duration(left)}"
                where = f"the disk of {self.scene.run.path}: {words}{ends}; make room: runctl prune"
                facts = {"free_bytes": free, "full_in_seconds": round(soon), "ends_in_seconds": left and round(left)}
                self.scene.events.add("disk_filling", **facts, reason=where)
        elif self._told is not None and (soon is None or soon > _EASED * until):
            self._told = None
            self.scene.events.add("disk_eased", free_bytes=free, reason=f"{format_bytes(free)} are free again")

    def _left(self, seconds: float) -> float | None:
        """How long the run still takes, by its pace since the first look at its steps, or by its time limit."""
        beat = self.heartbeat()
        step, total = fields.whole(beat, "step"), fields.whole(beat, "total_steps")
        ends = []
        if step is not None and total is not None:
            self._first = self._first if self._first and self._first[1] <= step else (seconds, step)
            since, first = self._first
            if step > first and seconds > since:
                ends.append(max(0, total - step) * (seconds - since) / (step - first))
        if (timeout := fields.number(self.scene.config.get("compute"), "timeout")) is not None:
            ends.append(max(0.0, timeout - seconds))
        return min(ends, default=None)

    def heartbeat(self) -> dict[str, Any]:
        return record.read_object(self._files.heartbeat)

    def _saves(self, whole: list[dict[str, Any]], left: float | None) -> Saves | None:
        """The checkpoints to come, once one is there to be measured."""
        if self._kept is None or not whole:
            return None
        now, cadence = time.monotonic(), self._every
        if len(self._saved) > 1:
            cadence = (self._saved[-1] - self._saved[0]) / (len(self._saved) - 1)
        missing = max(1, self._kept + 1 - len(whole))
        next_in = 0.0
        if cadence and self._saved:
            next_in = max(0.0, cadence - (now - self._saved[-1]))
        if cadence and left is not None:
            missing = min(missing, 1 + int(max(0.0, left - next_in) / cadence))
        return Saves(max(one["bytes"] for one in whole[-3:]), missing, next_in, cadence)


def _words(free: int, soon: float, per_second: float, saves: Saves | None) -> str:
    """`1.2 GiB left, full in about 3h10m: 4 checkpoints of 512 MiB are to come, and 40 MiB an hour of other files`."""
    takes = []
    if saves is not None:
        takes.append(f"{counted(saves.missing, 'checkpoint')} of {format_bytes(saves.bytes)} to come")
    if per_second > 0:
        takes.append(f"{format_bytes(per_second * 3600)} an hour of other files")
    if saves is not None and saves.bytes > free:
        return f"{format_bytes(free)} left, and the next checkpoint takes {format_bytes(saves.bytes)}"
    when = "full at the next checkpoint" if soon == 0.0 else f"full in about {format_duration(soon)}"
    if soon == 0.0 and saves is not None and saves.cadence is None:
        when = "too little for the checkpoints to come"
    return f"{format_bytes(free)} left, {when}: {', '.join(takes)}"


def _seconds(every: str | None) -> float | None:
    """A cadence in seconds, as an effective config says it (`600s`); None of one in steps or epochs."""
    try:
        return float(every[:-1]) if every and every.endswith("s") else None
    except ValueError:
        return None


def _size(path: os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
