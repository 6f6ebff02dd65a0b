"""How far each process of an attempt is, seen from outside: `attempts/N/ranks/`. Free of torch.

    0.at, 1.at …            pid, and how many times the process came to where all must come; from before the wait
    1.json, 2.json …        the heartbeats of the processes but the first, whose is the attempt's own
    1.failed.json …         why a process failed

Why a count beside the heartbeats: when one process hangs, all the others wait for it and are silent as well. Who has
come one time less than the others is the one that they wait for. A count costs one small write into a kept file.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import fields, record
from runctl.light import dataclass

RANKS = "RUNCTL_RANKS"  # how many processes share the run: set for those that the leader starts


class PeerLost(Exception):
    """Another process of the run is gone: what this one fails of is not its own."""


@dataclass(frozen=True)
class Seat:
    """Which of `size` processes this is; the one of rank 0 writes the records."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0


def seat() -> Seat:
    """This process's place, by the environment that the leader and torchrun gave it."""
    size = os.environ.get(RANKS, "")
    return Seat(int(os.environ["RANK"]), int(size)) if size.isdecimal() else Seat()


class Mark:
    """This process's file of the count; what cannot be written is left out."""

    def __init__(self, attempt: record.Attempt, rank: int) -> None:
        self._count = -1
        self._file = -1
        with suppress(OSError):
            attempt.ranks.mkdir(parents=True, exist_ok=True)
            self._file = os.open(attempt.ranks / f"{rank}.at", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.arrive()

    def arrive(self) -> None:
        """Say that the process has come one further, before it waits for the others."""
        self._count += 1
        if self._file >= 0:
            with suppress(OSError):
                os.pwrite(self._file, b"%10d %15d\n" % (os.getpid(), self._count), 0)


@dataclass(frozen=True)
class At:
    """Where a process stands."""

    rank: int
    pid: int
    count: int


def standing(attempt: record.Attempt) -> list[At]:
    """Where the processes of an attempt stand, by rank; [] of an attempt of one."""
    found = []
    for path in attempt.ranks.glob("*.at"):
        with suppress(OSError, ValueError):
            pid, count = path.read_text("ascii").split()
            found.append(At(int(path.stem), int(pid), int(count)))
    return sorted(found, key=lambda one: one.rank)


def behind(attempt: record.Attempt) -> str:
    """Which processes the others wait for, in words; "" where none is behind."""
    there = standing(attempt)
    most = max((one.count for one in there), default=0)
    late = [f"rank {one.rank} (process {one.pid})" for one in there if one.count < most]
    if not late:
        return ""
    return f"{', '.join(late)} did not come to where {len(there) - len(late)} of {len(there)} processes wait"


def tell_failure(attempt: record.Attempt, rank: int, error: dict[str, Any], *, second: bool) -> None:
    """Leave why this process failed; `second`: only because another one is gone."""
    told = {"schema_version": record.SCHEMA_VERSION, "rank": rank, "time": time.time(), "second": second}
    with suppress(OSError):
        record.write_json(attempt.ranks / f"{rank}.failed.json", told | {"error": error})


def failures(attempt: record.Attempt) -> list[dict[str, Any]]:
    """What the processes have told of their failures, the first one first, those that only followed last."""
    found = [record.read_object(path) for path in attempt.ranks.glob("*.failed.json")]
    found = [one for one in found if isinstance(one.get("error"), dict) and isinstance(one.get("rank"), int)]
    return sorted(found, key=lambda one: (bool(one.get("second")), fields.number(one, "time") or 0.0))


def heartbeat(attempt: record.Attempt, rank: int) -> Path:
    return attempt.heartbeat if rank == 0 else attempt.ranks / f"{rank}.json"


def stacks(attempt: record.Attempt, rank: int) -> Path:
    return attempt.stacks if rank == 0 else attempt.ranks / f"{rank}.stacks.txt"
