"""Evidence of life: is the process that a record names still the same living process?

A pid alone proves nothing: pids are used again, machines restart, and a run directory may be looked at from another
machine or container. So a process is known by its pid, its start time, the boot of its machine, the machine itself
and its pid namespace, all read from /proc. Elsewhere than on Linux, psutil gives start and boot times if it is
installed; without it only the pid is compared, and `Identity.start` is empty to say so.

For tests, RUNCTL_TEST_BOOT_ID and RUNCTL_TEST_MACHINE_ID replace what the system says of itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Collection
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from runctl.light import asdict, dataclass

_LINUX = sys.platform == "linux"


class Life(StrEnum):
    """What can be said of a process. `ELSEWHERE`: it lived on a machine that cannot be asked from here."""

    ALIVE = "alive"
    DEAD = "dead"
    REBOOTED = "rebooted"
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Place:
    """A machine, its current boot and the pid namespace in which its pids mean something."""

    boot: str
    machine: str
    host: str
    namespace: str


@dataclass(frozen=True)
class Identity:
    """One process, unmistakable. `start` is in clock ticks since boot on Linux, as text so that JSON keeps it."""

    pid: int
    start: str
    boot: str
    machine: str
    host: str
    namespace: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def here() -> Place:
    """This machine, now."""
    place = _here()
    boot = os.environ.get("RUNCTL_TEST_BOOT_ID", place.boot)
    machine = os.environ.get("RUNCTL_TEST_MACHINE_ID", place.machine)
    return Place(boot, machine, place.host, place.namespace)


def identify(pid: int | None = None) -> Identity | None:
    """The identity of a living process (this one by default), None if there is no such process."""
    pid = os.getpid() if pid is None else pid
    start = _start(pid)
    if start is None:
        return None
    place = here()
    return Identity(pid, start, place.boot, place.machine, place.host, place.namespace)


def from_json(data: Any) -> Identity | None:
    """The identity that `to_json` wrote; None for anything else."""
    if not isinstance(data, dict) or not isinstance(data.get("pid"), int) or isinstance(data["pid"], bool):
        return None
    if data["pid"] <= 0:
        return None
    texts = [data.get(key) for key in ("start", "boot", "machine", "host", "namespace")]
    if not all(isinstance(text, str) for text in texts):
        return None
    return Identity(data["pid"], *(str(text) for text in texts))


def life(identity: Identity | None, place: Place | None = None) -> Life:
    """What is known of a process now, as seen from `place` (here by default)."""
    if identity is None:
        return Life.UNKNOWN
    place = place or here()
    if identity.boot != place.boot:
        same = identity.machine == place.machine and identity.host == place.host
        return Life.REBOOTED if same else Life.ELSEWHERE
    if identity.namespace != place.namespace or identity.machine != place.machine:
        return Life.ELSEWHERE
    return Life.ALIVE if _start(identity.pid) == identity.start else Life.DEAD


def group_life(leader: Identity | None, session: int | None, place: Place | None = None) -> Life:
    """The life of a process group: alive while any of its members is, even after its leader.

    `session` is the session that the group belongs to (the supervisor's pid): a group whose number was used again
    lies in another session.
    """
    found = life(leader, place)
    if found is Life.DEAD and leader is not None and members(leader.pid, session):
        return Life.ALIVE
    return found


def members(group: int, session: int | None = None) -> list[int]:
    """The pids of a process group that live (zombies do not); [] where /proc cannot tell."""
    found = []
    for pid in _pids():
        stat = _stat(pid)
        if stat and int(stat[2]) == group and session in (None, int(stat[3])):
            found.append(pid)
    return found


def children(parent: int) -> list[int]:
    """The pids of the living direct children of a process; [] where /proc cannot tell."""
    return [pid for pid in _pids() if (stat := _stat(pid)) and int(stat[1]) == parent]


def descendants(ancestor: int, without: Collection[int] = ()) -> list[int]:
    """The pids of the living children of a process, of theirs, and so on, those `without` and theirs left out; [] where
    /proc cannot tell."""
    below: dict[int, list[int]] = {}
    for pid in _pids():
        if stat := _stat(pid):
            below.setdefault(int(stat[1]), []).append(pid)
    found, waiting = [], [ancestor]
    while waiting:
        children = [pid for pid in below.pop(waiting.pop(), []) if pid not in without]
        found += children
        waiting += children
    return found


def marked(run_dir: Path) -> list[int]:
    """The living processes whose environment names a run's folder: what its trainers started, wherever it went."""
    wanted = f"RUNCTL_RUN_DIR={run_dir}".encode()
    found = []
    for pid in _pids():
        try:
            named = wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if named and pid != os.getpid() and _stat(pid):
            found.append(pid)
    return found


def send(identity: Identity, number: signal.Signals) -> bool:
    """Signal exactly that process, whatever happens to its pid meanwhile; False if it no longer lives.
    Raises PermissionError where it belongs to someone else."""
    try:
        if not hasattr(os, "pidfd_open"):
            if life(identity) is not Life.ALIVE:
                return False
            os.kill(identity.pid, number)
            return True
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if life(identity) is not Life.ALIVE:
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def _start(pid: int) -> str | None:
    """The start time of a living process as text, "" if it lives but cannot be dated, None if it does not live."""
    if _LINUX:
        stat = _stat(pid)
        return stat[19] if stat else None
    try:
        import psutil

        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except ImportError:
        pass
    except Exception:  # psutil's own errors: no such process, access denied
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, …, [19] = start time.
    None for the dead, zombies included."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 1 :].split()
    return None if fields[0] in ("Z", "X", "x") else fields


def living() -> list[int]:
    """The pids of all processes of this machine that can be seen."""
    return _pids()


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


@cache
def _here() -> Place:
    boot = _read("/proc/sys/kernel/random/boot_id") or _boot_time()
    machine = _read("/etc/machine-id") or socket.gethostname()
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return Place(boot, machine, socket.gethostname(), namespace)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _boot_time() -> str:
    try:
        import psutil

        return str(round(psutil.boot_time()))
    except ImportError:
        return ""
