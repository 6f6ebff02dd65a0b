"""A run's folder on a container's own disk, and its copy on the volume that outlives the container.

Why two places: the run is written with locks, links and renames that a volume need not know, and a provider may commit
a volume at any moment, also in the middle of a file. So a file comes to the volume whole: copied under another name
and renamed, a checkpoint's manifest after its files, `latest` after both, and the other way round where one goes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_NOT_CARRIED = ("supervisor.lock", "remote.json", "dataset")
_LATER = {"manifest.json": 1, "latest": 2, "result.json": 3, "exit.json": 4, "summary.json": 5}
_LARGE = 8 << 20  # bytes of a log that is not carried over with every heartbeat

Sign = tuple[int, int]


class Mirror:
    """Carries what changed in `here` to `there`. One at a time; `there` has no other writer meanwhile."""

    def __init__(self, here: Path, there: Path) -> None:
        self.here, self.there = here, there
        self.carried: dict[str, Sign] = {}

    def fetch(self) -> None:
        """Bring everything here, at the start of a container."""
        for path, _ in _files(self.there):
            target = self.here / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.there / path, target)
        self.carried = dict(_files(self.here))

    def leave(self, path: str) -> None:
        """A file that was changed here is not to be changed over there."""
        status = (self.here / path).stat()
        self.carried[path] = (status.st_size, status.st_mtime_ns)

    def carry(self, *, whole: bool = True) -> int:
        """Bring what changed over there, and take away what is gone here; returns how many files that were. Not
        `whole`: large logs wait for the next time. Raises OSError."""
        now = dict(_files(self.here))
        changed = [path for path, sign in now.items() if self.carried.get(path) != sign]
        gone = [path for path in self.carried if path not in now]
        for path in sorted(gone, key=_order, reverse=True):
            (self.there / path).unlink(missing_ok=True)
            self._without_empty((self.there / path).parent)
            del self.carried[path]
        count = len(gone)
        for path in sorted(changed, key=_order):
            if not whole and path.endswith(".txt") and now[path][0] > _LARGE:
                continue
            if self._copy(path):
                self.carried[path] = now[path]
                count += 1
        return count

    def _copy(self, path: str) -> bool:
        """False if it is gone again since it was listed."""
        target = self.there / path
        beside = target.with_name(f".{target.name}.new")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(self.here / path, beside)
        except FileNotFoundError:
            beside.unlink(missing_ok=True)
            return False
        os.replace(beside, target)
        return True

    def _without_empty(self, folder: Path) -> None:
        while folder != self.there:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _files(folder: Path) -> list[tuple[str, Sign]]:
    """Every file below that belongs on the volume, by relative path, with what changes when it does."""
    found: list[tuple[str, Sign]] = []
    for parent, folders, names in os.walk(folder):
        inside = os.path.relpath(parent, folder)
        folders[:] = [name for name in folders if name not in _NOT_CARRIED and not name.startswith(".")]
        for name in names:
            if name.startswith(".") or name in _NOT_CARRIED:
                continue
            path = os.path.join(parent, name)
            try:
                status = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if os.path.isfile(path) and not os.path.islink(path):
                found.append((os.path.normpath(os.path.join(inside, name)), (status.st_size, status.st_mtime_ns)))
    return found


def _order(path: str) -> tuple[int, str]:
    return _LATER.get(os.path.basename(path), 0), path
