"""What this machine has: memory and room on the disk, as a run here would meet them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # cgroup 2, cgroup 1


def memory_bytes() -> int | None:
    """The memory that processes here may use: the machine's, or a container's limit below it. None if unknown."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (OSError, ValueError):
        found = []
    for file in _LIMITS:
        try:
            found.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min((size for size in found if size > 0), default=None)


def free_bytes(folder: Path) -> int | None:
    """Room on the disk of a folder, or of its nearest parent that is there. None if unknown."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
