"""All processes of a container, by a mark in their environment: a trainer in a session of its own is one of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "PLANE_CONTAINER"


def of(task: str) -> Iterator[int]:
    """The pids of a container, children that cleaned their environment included."""
    mark = f"{MARK}={task}".encode()
    parents: dict[int, int] = {}
    marked: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(int(entry.name))
    while more := {pid for pid, parent in parents.items() if parent in marked and pid not in marked}:
        marked |= more
    return iter(marked - {os.getpid()})


def end_all(task: str) -> None:
    """SIGKILL until nothing is left: a process may start another while this goes through them."""
    for _ in range(20):
        alive = [pid for pid in of(task) if _living(pid)]
        if not alive:
            return
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _living(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def open_files(task: str, inodes: set[tuple[int, int]]) -> bool:
    """Whether a process of the container has one of these files open or as its working directory."""
    for pid in of(task):
        with suppress(OSError):
            for link in [f"/proc/{pid}/cwd", *(f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))]:
                with suppress(OSError):
                    status = os.stat(link)
                    if (status.st_dev, status.st_ino) in inodes:
                        return True
    return False
