"""A volume is a directory; a container works on a copy of its own. Only a commit carries the copy's changes back.

So a container that is killed loses exactly what it had not committed, and nobody outside sees half a commit: everything
here runs on the plane's loop, in one piece. Files are compared by size, time and inode; the last writer of a file wins.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Signs = dict[str, tuple[int, ...]]


@dataclass
class Volume:
    id: str
    name: str
    version: int
    folder: Path
    created: float = field(default_factory=time.time)
    commits: list[tuple[float, str, list[str]]] = field(default_factory=list)  # time, who, changed paths

    @property
    def seen(self) -> Path:
        """What is seen of it outside of containers, where that may be older (`Quirks.lag`)."""
        return self.folder.with_name(f".{self.folder.name}.seen")

    def path(self, inside: str, root: Path | None = None) -> Path:
        """The place of a path of the volume; raises ValueError for one that would leave it."""
        folder = (root or self.folder).resolve()
        place = (folder / inside.lstrip("/")).resolve()
        if place != folder and folder not in place.parents:
            raise ValueError(f"{inside} leaves the volume")
        return place


class Copy:
    """One container's copy of a volume. `why` in commit: "explicit", "background", "exit" or "reload"."""

    def __init__(self, volume: Volume, folder: Path) -> None:
        self.volume, self.folder = volume, folder
        shutil.copytree(volume.folder, folder, symlinks=True)
        self._mine, self._theirs = signs(folder), signs(volume.folder)

    def commit(self, who: str) -> list[str]:
        """Carry what changed since the last time over to the volume; returns the changed paths."""
        now = signs(self.folder)
        changed = sorted(path for path, sign in now.items() if self._mine.get(path) != sign)
        gone = sorted((path for path in self._mine if path not in now), reverse=True)
        for path in changed:
            _carry(self.folder / path, self.volume.folder / path)
        for path in gone:
            _remove(self.volume.folder / path)
        self._mine = now
        for path in [*changed, *gone]:
            self._theirs.pop(path, None)
        self._theirs |= {path: sign for path, sign in signs(self.volume.folder).items() if path in changed}
        if changed or gone:
            self.volume.commits.append((time.time(), who, [*changed, *gone]))
        return [*changed, *gone]

    def reload(self, who: str) -> None:
        """Commit, then take over what others have committed."""
        self.commit(who)
        theirs = signs(self.volume.folder)
        for path in sorted(path for path, sign in theirs.items() if self._theirs.get(path) != sign):
            _carry(self.volume.folder / path, self.folder / path)
        for path in sorted((path for path in self._theirs if path not in theirs), reverse=True):
            _remove(self.folder / path)
        self._mine, self._theirs = signs(self.folder), theirs

    def inodes(self) -> set[tuple[int, int]]:
        """(device, inode) of every file, to recognise one that is open."""
        return {(sign.st_dev, sign.st_ino) for sign in (path.lstat() for path in self.folder.rglob("*"))}


Kept = list[tuple[str, Path | None]]


def keep(volume: Volume, paths: list[str]) -> Kept:
    """Files of a volume as they are now, to be shown later; None for what is gone. A commit replaces files, so that a
    link keeps the one of now."""
    folder = volume.folder.with_name(f".{volume.folder.name}.{time.monotonic_ns()}")
    kept: Kept = []
    for number, path in enumerate(paths):
        source, place = volume.folder / path, folder / str(number)
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True, copy_function=os.link)
        elif source.exists():
            folder.mkdir(exist_ok=True)
            os.link(source, place)
        kept.append((path, place if place.exists() else None))
    return kept


def show(volume: Volume, kept: Kept) -> None:
    """Let what was kept be seen outside."""
    for path, place in kept:
        target = volume.seen / path
        if place is None:
            shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
        elif place.is_dir():
            shutil.copytree(place, target, symlinks=True, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, target)


def signs(folder: Path) -> Signs:
    """What would change if a file or directory of the tree did: by relative path."""
    found: Signs = {}
    for path, entry in _walk(folder, ""):
        status = entry.stat(follow_symlinks=False)
        directory = entry.is_dir(follow_symlinks=False)
        found[path] = (0,) if directory else (status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode)
    return found


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:  # a running container may remove a directory while it is read
        return
    for entry in entries:
        path = f"{prefix}{entry.name}"
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, f"{path}/")


def _carry(source: Path, place: Path) -> None:
    try:
        if source.is_dir() and not source.is_symlink():
            place.mkdir(parents=True, exist_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.carried")
        shutil.copy2(source, beside, follow_symlinks=False)
        os.replace(beside, place)
    except FileNotFoundError:
        return  # gone again since it was listed: a temporary file of a running program


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        try:
            place.rmdir()
        except OSError:
            return  # somebody else put a file there
    else:
        place.unlink(missing_ok=True)
