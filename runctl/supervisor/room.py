"""Room on the disk for the end of an attempt, and whether the disk is full.

Why a reserve: on a full disk nobody could write down that the disk is full. A launch or resume sets a file aside
for the attempt (and fails itself where even that does not fit); the supervisor gives it back to write the end.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from runctl import record

_NAME = ".reserve"
_BYTES = 1 << 16
_LEFT_BYTES = 1 << 12


def reserve(folder: Path) -> None:
    """Set room aside in an attempt's folder, unless it is there; raises OSError if there is none."""
    path = folder / _NAME
    with suppress(OSError):
        if path.stat().st_size >= _BYTES:
            return
    with open(path, "wb", opener=record.no_link) as file:  # written, not only sized: a file of holes takes no room
        file.write(os.urandom(_BYTES))
        file.flush()
        os.fsync(file.fileno())


def release(folder: Path) -> None:
    """Give the room back, to be written into at once."""
    (folder / _NAME).unlink(missing_ok=True)


def full(folder: Path) -> str:
    """`no space left on FOLDER` if its disk has no room for one more small file, else "". Nothing is written."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    if disk.f_bavail * disk.f_frsize < _LEFT_BYTES:
        return f"no space left on {folder}"
    if disk.f_files and not disk.f_favail:  # some file systems count no inodes and say 0 of 0
        return f"no inodes left on {folder}"
    return ""
