"""What a trainer leaves behind: processes that outlive it, and files of shared memory that nobody frees.

The processes are ended by `process.end_group`, wherever they went: whatever loses its parent falls to the supervisor.
Here it is told which they were, and shared memory is freed. That is kept narrow, because /dev/shm belongs to all: a
file is only removed if it is this user's alone, came during the attempt, was seen in use by a process of the attempt
(or bears the pid of one, as torch names them), and nobody maps or opens it any more.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path

from runctl import evidence
from runctl.supervisor import process
from runctl.supervisor.watchers import Scene, Watcher
from runctl.units import counted, format_bytes

SHARED = Path("/dev/shm")  # noqa: S108 - where the kernel keeps shared memory
_EVERY_SECONDS = 15.0
_NAMED = 5
_BY_PID = re.compile(r"torch_(\d+)_")


class Leftovers(Watcher):
    """Looks at the processes of an attempt now and then, and at its end."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.there_before = set(_names())
        self.began = time.time()
        self.next_look = 1.0
        self.pids: set[int] = set()
        self.files: set[str] = set()
        self.left: dict[int, str] = {}

    def look(self, seconds: float) -> None:
        if seconds >= self.next_look:
            self.next_look = seconds + _EVERY_SECONDS
            self._see()

    def orphaned(self, group: int) -> None:
        self.pids.add(group)
        for pid in self._see():
            if not process.cleans_up(pid):
                self.left[pid] = _command(pid)

    def end(self) -> None:
        words = []
        if self.left:
            some = [f"{pid} {command}".rstrip() for pid, command in list(self.left.items())[:_NAMED]]
            more = f" and {len(self.left) - _NAMED} more" if len(self.left) > _NAMED else ""
            processes = "process" if len(self.left) == 1 else "processes"
            words.append(f"{len(self.left)} {processes} that outlived the trainer: {', '.join(some)}{more}")
        if freed := self._free():
            size = format_bytes(sum(freed.values()))
            words.append(f"{counted(len(freed), 'file')} of shared memory, {size}: {', '.join(list(freed)[:_NAMED])}")
        if words:
            self.scene.events.add("left_behind", reason=f"ended and removed {'; '.join(words)}")

    def _see(self) -> list[int]:
        """Note the processes of the attempt and the shared memory that they use."""
        found = evidence.descendants(os.getpid(), process.spared())
        self.pids.update(found)
        for pid in found:
            self.files |= _used(pid) - self.there_before
        return found

    def _free(self) -> dict[str, int]:
        """Remove the files that belonged to the attempt alone; their names and sizes."""
        named = {name for name in _names() if (by := _BY_PID.match(name)) and int(by[1]) in self.pids}
        wanted = {name for name in (self.files | named) - self.there_before if self._own(name)}
        if not wanted:
            return {}
        for pid in evidence.living():
            wanted -= _used(pid)
        freed = {}
        for name in sorted(wanted):
            with suppress(OSError):
                size = (SHARED / name).stat().st_size
                (SHARED / name).unlink()
                freed[name] = size
        return freed

    def _own(self, name: str) -> bool:
        try:
            found = (SHARED / name).lstat()
        except OSError:
            return False
        alone = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
        return alone and found.st_ctime >= self.began - 1.0


def _names() -> list[str]:
    try:
        return os.listdir(SHARED)
    except OSError:
        return []


def _used(pid: int) -> set[str]:
    """The names in /dev/shm that a process maps or has open."""
    found: set[str] = set()
    folder = f"{SHARED}/"
    with suppress(OSError), Path(f"/proc/{pid}/maps").open("rb") as lines:
        mapped = (os.fsdecode(line).partition(folder)[2].rstrip("\n") for line in lines)
        found.update(name for name in mapped if name)
    with suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
                found.update([target.removeprefix(folder)] if target.startswith(folder) else [])
    return {name for name in found if not name.endswith(" (deleted)")}


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
        return " ".join(words)[:60]
    return ""
