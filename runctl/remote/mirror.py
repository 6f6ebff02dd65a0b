"""A run's folder on a container's own disk, and its copy on the volume that outlives the container.

Why two places: the run is written with locks, links and renames that a volume need not know, and a provider may commit
a volume at any moment, also in the middle of a file. So a file comes to the volume whole: copied under another name
and renamed, a checkpoint's manifest after its files, `latest` after both, and the other way round where one goes; and
nothing goes before what is new has come.

What a program of one's own writes beside runctl's records is carried over only when everything is (`whole`), all of it
or nothing of a folder: the oldest file first, so that a marker comes after what it speaks for; never one that changes
meanwhile; and with the time of its last change (`.signs.json`), by which a later container knows that a checkpoint is
the one that was seen whole.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

_NOT_CARRIED = ("supervisor.lock", "remote.json", "dataset", "elsewhere.json")
_RECORDS = (
    "run.json", "code.diff", "config.json", "events.jsonl", "metrics.jsonl", "summary.json", "supervisor.log"
)  # fmt: skip
_TEMPORARY = (".tmp", ".part", ".partial", "~")
_LATER = {"manifest.json": 1, "latest": 2, "saved.json": 2, "result.json": 3, "exit.json": 4, "summary.json": 5}
_LARGE = 8 << 20  # bytes of a log that is not carried over with every heartbeat
_SIGNS = ".signs.json"

Sign = tuple[int, int]  # bytes, time of the last change in ns


class Mirror:
    """Carries what changed in `here` to `there`. One at a time; `there` has no other writer meanwhile."""

    def __init__(self, here: Path, there: Path) -> None:
        self.here, self.there = here, there
        self.carried: dict[str, Sign] = {}

    def fetch(self) -> None:
        """Bring everything here, at the start of a container."""
        signs, whole = _read(self.there / _SIGNS), _seen_whole(self.there)
        for path, (size, _) in _files(self.there):
            target = self.here / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.there / path, target)
            if _is_record(path):
                continue
            known = signs.get(path)
            if isinstance(known, list) and known[:1] == [size] and _within(path, whole):
                os.utime(target, ns=(known[1], known[1]))  # a volume need not keep the time to the nanosecond
            else:
                os.utime(target)  # nobody has seen it whole: its old time would say that it was renamed when it was
        self.carried = dict(_files(self.here))

    def leave(self, path: str) -> None:
        """A file that was changed here is not to be changed over there."""
        status = (self.here / path).stat()
        self.carried[path] = (status.st_size, status.st_mtime_ns)

    def carry(self, *, whole: bool = True) -> int:
        """Bring what changed over there, and take away what is gone here; returns how many files that were. Not
        `whole`: large logs wait for the next time, and what is none of runctl's own records. Raises OSError."""
        now = dict(_files(self.here))
        changed = [path for path, sign in now.items() if self.carried.get(path) != sign]
        gone = [path for path in self.carried if path not in now]
        count, moving = 0, set[str]()
        for path in sorted(changed, key=lambda one: _order(one, now[one])):
            ours = _is_record(path)
            if not whole and (not ours or (path.endswith(".txt") and now[path][0] > _LARGE)):
                continue
            if os.path.dirname(path) in moving and not ours:
                continue
            if path == "saved.json":
                self._sign()
            if self._copy(path, None if ours else now[path]):
                self.carried[path] = now[path]
                count += 1
            elif not ours:
                moving.add(os.path.dirname(path))
        for path in sorted(gone, key=lambda one: _order(one, self.carried[one]), reverse=True):
            if not whole and not _is_record(path):
                continue
            (self.there / path).unlink(missing_ok=True)
            self._without_empty((self.there / path).parent)
            del self.carried[path]
            count += 1
        if count and whole:
            self._sign()
        return count

    def _copy(self, path: str, sign: Sign | None) -> bool:
        """False if it is gone again since it was listed, or, where it must not, changes while it is copied."""
        target = self.there / path
        beside = target.with_name(f".{target.name}.new")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(self.here / path, beside)
            after = (self.here / path).stat()
        except FileNotFoundError:
            beside.unlink(missing_ok=True)
            return False
        if sign is not None and sign != (after.st_size, after.st_mtime_ns):
            beside.unlink(missing_ok=True)
            return False
        os.replace(beside, target)
        return True

    def _sign(self) -> None:
        """Note when the files that are none of runctl's records were last changed."""
        signs = {path: sign for path, sign in self.carried.items() if not _is_record(path)}
        if signs or (self.there / _SIGNS).exists():
            beside = self.there / f"{_SIGNS}.new"
            beside.write_text(json.dumps(signs), encoding="utf-8")
            os.replace(beside, self.there / _SIGNS)

    def _without_empty(self, folder: Path) -> None:
        while folder != self.there:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _seen_whole(folder: Path) -> list[str]:
    """The checkpoints of a program that the supervisor has seen whole, by their paths."""
    rows = _read(folder / "saved.json").get("checkpoints")
    return [str(row.get("path")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _within(path: str, places: list[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in places)


def _is_record(path: str) -> bool:
    """Whether a file is one of runctl's own: its records, or a checkpoint of its trainer."""
    first = path.partition("/")[0]
    return path in _RECORDS or first == "attempts" or (first == "checkpoints" and "/" in path and _trainers(path))


def _trainers(path: str) -> bool:
    name = path.split("/")[1]
    return name == "latest" or name.startswith(("step-", "damaged-step-"))


def _files(folder: Path) -> list[tuple[str, Sign]]:
    """Every file below that belongs on the volume, by relative path, with what changes when it does."""
    found: list[tuple[str, Sign]] = []
    for parent, folders, names in os.walk(folder):
        inside = os.path.relpath(parent, folder)
        left = _NOT_CARRIED if inside == "." else ()
        folders[:] = [name for name in folders if name not in left and not name.startswith(".")]
        for name in names:
            if name.startswith(".") or name in left:
                continue
            path = os.path.join(parent, name)
            try:
                status = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                continue
            inner = os.path.normpath(os.path.join(inside, name))
            if name.endswith(_TEMPORARY) and not _is_record(inner):
                continue
            if os.path.isfile(path) and not os.path.islink(path):
                found.append((inner, (status.st_size, status.st_mtime_ns)))
    return found


def _order(path: str, sign: Sign) -> tuple[int, int, str]:
    return _LATER.get(os.path.basename(path), 0), 0 if _is_record(path) else sign[1], path


def _read(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
