"""The folder of the runs: whether it can be written to, how much room it has, and what its file system can do.

What runctl stands on is tried in a folder of its own there, which is gone afterwards: a lock that a second process
cannot take, a rename over a file that is there, a hard link, a flush to the disk, the time that the disk gives a file.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runctl import record
from runctl.doctor import BAD, OK, WARN, Check, Look
from runctl.units import counted, format_bytes, format_short

_LOW_BYTES = 5 << 30
_NO_BYTES = 256 << 20
_LOW_SHARE = 0.05
_LOW_INODES = 10_000
_SLOW_SYNC_SECONDS = 0.5
_DRIFT_SECONDS = 2.0
_LOCK = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'ab'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
_KINDS = {
    "nfs": "a network file system: its locks need a lock service, and a rename may be seen late elsewhere",
    "nfs4": "a network file system: another machine may see a rename late",
    "cifs": "a network file system, whose locks and modes are emulated",
    "smb3": "a network file system, whose locks and modes are emulated",
    "9p": "a folder shared by the host: locks may not reach it",
    "drvfs": "a Windows disk under WSL: slow, and its modes are emulated",
    "fuse.sshfs": "a folder of another machine over ssh: locks do not reach it",
    "fuse.gcsfuse": "a bucket: no locks, and a rename copies",
    "fuse.s3fs": "a bucket: no locks, and a rename copies",
    "fuse.goofys": "a bucket: no locks, and a rename copies",
    "overlay": "the layer of a container: gone with it",
    "aufs": "the layer of a container: gone with it",
    "tmpfs": "memory: gone with the next restart of the machine",
    "ramfs": "memory: gone with the next restart of the machine",
}


def folder(project: Path) -> Iterator[Check]:
    """Whose it is, and who may write to it."""
    root = record.runs_root(project)
    if not root.exists():
        if root.is_symlink():
            yield Check(
                "runs", "folder", BAD, f"{root} is a link to nowhere", f"make {os.readlink(root)}, or remove it"
            )
            return
        home = next(parent for parent in root.parents if parent.exists())
        may = os.access(home, os.W_OK | os.X_OK)
        seen = f"{root} is not there yet" + ("" if may else f", and {home} cannot be written to")
        yield Check("runs", "folder", OK if may else BAD, seen, "" if may else f"make {home} writable for you")
        return
    if not root.is_dir():
        yield Check("runs", "folder", BAD, f"{root} is no folder", "move it away: the runs are kept there")
        return
    if not os.access(root, os.W_OK | os.X_OK | os.R_OK):
        yield Check(
            "runs", "folder", BAD, f"{root} cannot be written to", f"make it writable for you: chmod u+rwx {root}"
        )
        return
    about = root.stat()
    link = f", a link to {os.path.realpath(root)}" if root.is_symlink() else ""
    open_to_all = bool(about.st_mode & stat.S_IWOTH) and not about.st_mode & stat.S_ISVTX
    seen = f"{root}{link}" + (": everybody may write to it" if open_to_all else "")
    advice = f"chmod o-w {root}: who can write there can have runctl start programs" if open_to_all else ""
    yield Check("runs", "folder", WARN if open_to_all else OK, seen, advice)


def room(project: Path) -> Iterator[Check]:
    """Free bytes and free inodes."""
    place = _there(project)
    disk = os.statvfs(place)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    low = free < _LOW_BYTES or (total > 0 and free < _LOW_SHARE * total)
    state = BAD if free < _NO_BYTES else WARN if low else OK
    seen = f"{format_bytes(free)} of {format_bytes(total)} are free at {place}"
    yield Check("runs", "room", state, seen, "make room: runctl prune" if state != OK else "")
    if disk.f_files:
        few = disk.f_favail < _LOW_INODES
        advice = "many small files fill the disk's table: delete or pack them" if few else ""
        state = BAD if disk.f_favail < 100 else WARN if few else OK
        yield Check("runs", "inodes", state, f"{counted(disk.f_favail, 'file')} can still be made there", advice)


def file_system(project: Path) -> Iterator[Check]:
    """Its kind, and what it can do when it is tried."""
    place = _there(project)
    kind = kind_of(place)
    caveat = _KINDS.get(kind) or ("a user-space file system" if kind.startswith("fuse") else "")
    advice = "keep the runs on a disk of this machine, or make sure that they are copied" if caveat else ""
    yield Check(
        "runs", "file system", WARN if caveat else OK, f"{kind or 'unknown'}{f': {caveat}' * bool(caveat)}", advice
    )
    try:
        trial = Path(tempfile.mkdtemp(prefix=".doctor-", dir=place))
    except OSError as error:
        advice = "make it writable for you, or make room"
        yield Check("runs", "trial", BAD, f"nothing can be written to {place}: {error.strerror}", advice)
        return
    try:
        yield _lock(trial)
        yield _rename(trial)
        yield _link(trial)
        yield _flush(trial)
        yield _drift(trial)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _lock(trial: Path) -> Check:
    """Two processes: only one may have it, and it is free again when that has ended."""
    path = trial / "lock"
    argv = [sys.executable, "-S", "-P", "-c", _LOCK, str(path)]
    no = "two supervisors could run one run: keep the runs on another disk"
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            while_held = subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode
        after = subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("runs", "locks", BAD, f"a file cannot be locked: {error}", no)
    if while_held == 0:
        return Check("runs", "locks", BAD, "a lock keeps nobody out", no)
    return Check("runs", "locks", OK if after == 0 else WARN, "flock works" if after == 0 else "a lock stays held")


def _rename(trial: Path) -> Check:
    new, old = trial / "new", trial / "old"
    try:
        old.write_text("old")
        new.write_text("new")
        os.replace(new, old)
        whole = old.read_text() == "new" and not new.exists()
    except OSError as error:
        return Check("runs", "renames", BAD, f"a file cannot replace another: {error.strerror}", "use another disk")
    seen = "a file replaces another at once" if whole else "a rename over a file leaves both"
    return Check("runs", "renames", OK if whole else BAD, seen, "" if whole else "use another disk")


def _link(trial: Path) -> Check:
    try:
        (trial / "one").touch()
        os.link(trial / "one", trial / "two")
    except OSError as error:
        return Check("runs", "links", OK, f"no hard links ({error.strerror}); nothing needs them here")
    return Check("runs", "links", OK, "hard links work")


def _flush(trial: Path) -> Check:
    began = time.monotonic()
    try:
        with (trial / "flush").open("wb") as file:
            file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        record.sync_folder(trial)
    except OSError as error:
        return Check("runs", "flush", BAD, f"a file cannot be flushed: {error.strerror}", "use another disk")
    seconds = time.monotonic() - began
    slow = seconds > _SLOW_SYNC_SECONDS
    advice = "save checkpoints less often, or keep the runs on a faster disk" if slow else ""
    return Check("runs", "flush", WARN if slow else OK, f"1 MiB is on the disk in {format_short(seconds)}", advice)


def _drift(trial: Path) -> Check:
    """What time the disk gives a file, beside this machine's."""
    before = time.time()
    (trial / "time").touch()
    drift = (trial / "time").stat().st_mtime - before
    far = abs(drift) > _DRIFT_SECONDS
    advice = "set the clock of this machine or of the file server: ages and orders of files are wrong" if far else ""
    seen = f"the disk's clock is {abs(drift):.1f} s {'ahead of' if drift > 0 else 'behind'} this machine's"
    return Check(
        "runs", "file times", WARN if far else OK, seen if far else "the disk's clock is this machine's", advice
    )


def kind_of(place: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of the file system at a place: `ext4`, `nfs4`; "" where that is not known."""
    path = os.path.realpath(place)
    best = ("", "")
    with suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) < 3:
                continue
            at = fields[1].encode().decode("unicode_escape", "replace")
            inside = path == at or path.startswith(at.rstrip("/") + "/")
            if inside and len(at) >= len(best[0]):
                best = (at, fields[2])
    return best[1]


def _there(project: Path) -> Path:
    """The folder of the runs, or the nearest one above it that is there."""
    root = record.runs_root(project)
    return next(place for place in (root, *root.parents) if place.is_dir())


LOOKS: tuple[Look, ...] = (folder, room, file_system)
