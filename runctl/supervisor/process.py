"""The trainer as a process: started in a group of its own, ended with everything that it started.

Three nets under a lost process: the kernel sends SIGTERM to the trainer when the supervisor dies (Linux,
PR_SET_PDEATHSIG); the whole process group is killed when the attempt ends; and whatever left the group falls back
to the supervisor, which is its "subreaper", and is killed as well.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import runctl
from runctl import evidence, record
from runctl.units import counted

TERMINAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what a terminal or its end sends to a whole group
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_PTRACER = 0x59616D61
_KILL_SECONDS = 10.0
_CLEANER_SECONDS = 1.0
_spared: set[int] = set()
outer_umask = -1  # under which a program of the user's own is started; -1: as this process


def start(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, adopt: bool = True, umask: int = -1
) -> subprocess.Popen[bytes]:
    """Start the trainer, its output straight into `log`. Call it from the main thread: the kernel watches the
    thread that forks. `adopt` makes this process the parent of whatever the trainer loses: a supervisor's business.
    Raises OSError if the program cannot be started."""
    library = _prctl()
    if library is not None and adopt:
        library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    parent = os.getpid()

    def in_child() -> None:
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            library.prctl(_PR_SET_PTRACER, parent, 0, 0, 0)  # py-spy, which the supervisor starts, may look at it
            if os.getppid() != parent:
                os._exit(1)

    with open(log, "ab", opener=record.no_link) as output:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            umask=umask,
            preexec_fn=in_child,
        )


def cannot_start(error: Exception, program: str, cwd: Path, env: Mapping[str, str]) -> str:
    """One line on why a program could not be started: which, where it was looked for, and what to do."""
    named = f"cannot start '{program}'"
    if not cwd.is_dir():
        return f"{named}: its folder {cwd} does not exist; correct command.cwd"
    code = getattr(error, "errno", None)
    if code == errno.ENOENT and os.sep not in program:
        folders = counted(len(env.get("PATH", os.defpath).split(os.pathsep)), "folder")
        return f"{named}: no such program in the {folders} of PATH; install it or name its path"
    path = cwd / program
    if code == errno.ENOENT and path.exists():
        return f"{named}: the interpreter that its first line names does not exist"
    if code == errno.ENOENT:
        return f"{named}: there is no {path}; correct command.argv or command.cwd"
    if code == errno.EACCES:
        return f"{named}: {path} may not be executed; make it executable: chmod +x {path}"
    if code == errno.ENOEXEC:
        return f"{named}: {path} is no program; begin it with a line like #!/bin/sh"
    return f"{named}: {error}"


def keep_private(folder: Path) -> None:
    """From now on what this process writes is for those who may read the folder; a user's own program is not bound."""
    global outer_umask
    outer_umask = os.umask(record.private_as(folder))


def forget_signals() -> None:
    """Drop what was sent while signals were still blocked, that is to the group of the launch, and unblock them."""
    for number in TERMINAL:
        handler = signal.signal(number, signal.SIG_IGN)  # to ignore a signal is to drop it where it waits
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        signal.signal(number, handler)


def spare(child: int) -> None:
    """Leave a child of this process alone when a trainer is ended: it is a helper of the supervisor's own."""
    _spared.add(child)


def spared() -> frozenset[int]:
    """The children that are left alone."""
    return frozenset(_spared)


def importable(env: dict[str, str]) -> dict[str, str]:
    """The environment in which runctl's own Python finds this very runctl, also from a checkout."""
    home = Path(runctl.__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return env
    paths = [str(home), *filter(None, [env.get("PYTHONPATH")])]
    return env | {"PYTHONPATH": os.pathsep.join(paths)}


def end_group(group: int) -> None:
    """Kill what is left of the trainer's process group and of this process's other children, and wait for it. What
    frees the shared memory of a Python program ends by itself once all else of it is gone, and gets a second to."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + _KILL_SECONDS:
        left = {*evidence.members(group), *evidence.children(os.getpid())} - _spared
        cleaners = {pid for pid in left if cleans_up(pid)} if now < began + _CLEANER_SECONDS else set()
        if not cleaners:
            signal_group(group, signal.SIGKILL)
        for pid in left - cleaners:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        if not left:
            return
        time.sleep(0.02)


def cleans_up(pid: int) -> bool:
    """Whether a process is the one that Python starts to remove the shared memory that a program leaves."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def signal_group(group: int, number: signal.Signals) -> bool:
    """Signal a whole process group; False if nothing of it is left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _prctl() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
