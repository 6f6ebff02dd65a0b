"""The checkpoints of a program of one's own: which were seen whole, where they lie, and whether they still are.

`saved.json` in the run's folder is written by the supervisor (`saved.py`). Whoever reads it compares each entry with
the disk: what is gone is left out, and what is no longer as it was seen is damaged, unless its format proves it whole.
Nothing of a checkpoint is unpickled or run; a zip file (as torch and NumPy write) and a safetensors file are looked at
for their end, which a half-written one has not.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import record
from runctl.fields import number, text, whole
from runctl.light import dataclass

_MOST_FILES = 10_000  # of one checkpoint
_MOST_HEADER = 32 << 20
_ZIP_TAIL = (1 << 16) + 22
MOST = 1_000  # entries in saved.json, the newest


@dataclass(frozen=True)
class Look:
    """A file, or all files of a folder, as they are now. `stamp` is the newest time of change, in ns."""

    bytes: int
    files: int
    stamp: int


def look(path: Path) -> Look | None:
    """How a checkpoint lies on the disk; None if there is nothing, or no file in it. Links are not followed."""
    size = files = stamp = 0
    for about in _files(path):
        files, size, stamp = files + 1, size + about.st_size, max(stamp, about.st_mtime_ns)
        if files >= _MOST_FILES:
            break
    return Look(size, files, stamp) if files else None


def moved(path: Path) -> bool:
    """Whether a checkpoint got its name after it was written: a rename changes an inode, but not what is in it."""
    try:
        about = path.lstat()
        newest = max((file.st_mtime_ns for file in _files(path)), default=about.st_ctime_ns)
    except OSError:
        return False
    return about.st_ctime_ns > max(newest, about.st_mtime_ns)


def whole_by_format(path: Path) -> bool | None:
    """Whether the format of a checkpoint proves it whole (True) or cut off (False); None where it says nothing."""
    known = [_whole_file(file) for file in paths(path)]
    if False in known:
        return False
    return True if True in known else None


def entries(run: record.RunDir) -> list[dict[str, Any]]:
    """What saved.json holds, oldest first, as far as it makes sense."""
    rows = record.read_object(run.saved).get("checkpoints")
    found = [row for row in rows if _sound(row)] if isinstance(rows, list) else []
    return sorted(found, key=lambda row: (number(row, "time") or 0.0, whole(row, "step") or 0))[-MOST:]


def place(run: record.RunDir, entry: dict[str, Any]) -> Path:
    """Where a checkpoint lies; the path of one outside the run's folder is absolute."""
    return run.path / str(entry["path"])


def checkpoints(run: record.RunDir) -> list[dict[str, Any]]:
    """The whole ones, oldest first, in the form of `summary.checkpoints`; `own` says that they have no manifest."""
    return [
        {**{key: row.get(key) for key in ("step", "path", "time", "bytes")}, "metrics": None, "own": True}
        for row in entries(run)
        if not trouble(run, row)
    ]


def newest(run: record.RunDir) -> tuple[dict[str, Any] | None, list[tuple[dict[str, Any], str]]]:
    """The newest whole one, and the newer ones that are damaged, each with why."""
    passed: list[tuple[dict[str, Any], str]] = []
    for row in reversed(entries(run)):
        why = trouble(run, row)
        if not why:
            return row, passed
        if why != GONE:
            passed.append((row, why))
    return None, passed


def damaged(run: record.RunDir) -> list[str]:
    """The names of those that lie there and are not whole."""
    return [Path(str(row["path"])).name for row in entries(run) if trouble(run, row) not in ("", GONE)]


GONE = "it is gone"


def trouble(run: record.RunDir, entry: dict[str, Any]) -> str:
    """Why a recorded checkpoint cannot be used now; "" if it can."""
    path = place(run, entry)
    now = look(path)
    if now is None:
        return "" if _elsewhere(run, entry) else GONE
    if (now.bytes, now.stamp) == (entry.get("bytes"), entry.get("stamp")):
        return ""
    by_format = whole_by_format(path)
    if by_format and now.files >= (whole(entry, "files") or 1):  # written again, and whole
        return ""
    changed = f"it has {now.bytes:,} bytes and had {entry.get('bytes'):,}" if now.bytes != entry.get("bytes") else ""
    return "it is cut off" if by_format is False else changed or "it was changed after it was seen whole"


def _elsewhere(run: record.RunDir, entry: dict[str, Any]) -> bool:
    """Whether all of a checkpoint lies on a provider's volume, as this machine was last told (`elsewhere.json`)."""
    name, files = str(entry["path"]), record.read_object(run.path / "elsewhere.json")
    inside = (path for path in files if path == name or path.startswith(f"{name}/"))
    sizes = [whole(files, path) or 0 for path in inside]
    return bool(sizes) and sum(sizes) == entry.get("bytes")


def _sound(row: Any) -> bool:
    name = text(row, "path")
    sizes = whole(row, "bytes"), whole(row, "stamp"), whole(row, "step")
    return bool(name) and "\0" not in str(name) and None not in sizes


def _files(path: Path) -> Iterator[os.stat_result]:
    for file in paths(path):
        with suppress(OSError):
            yield file.stat(follow_symlinks=False)


def paths(path: Path) -> Iterator[Path]:
    """The plain files of a checkpoint; links are left out."""
    path = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISREG(mode):
        yield path
    elif stat.S_ISDIR(mode):
        count = 0
        for folder, _, names in os.walk(path):
            for name in sorted(names):
                count += 1
                if count > _MOST_FILES:
                    return
                file = Path(folder) / name
                with suppress(OSError):
                    if stat.S_ISREG(file.lstat().st_mode):
                        yield file


def _whole_file(path: Path) -> bool | None:
    try:
        with path.open("rb") as file:
            begin, size = file.read(8), file.seek(0, os.SEEK_END)
            if begin.startswith(b"PK\x03\x04"):
                file.seek(max(0, size - _ZIP_TAIL))
                return _zip_ends(file.read())
            if path.suffix == ".safetensors":
                return _safetensors_ends(file, begin, size)
            return False if not size else None
    except OSError:
        return False


def _zip_ends(tail: bytes) -> bool:
    """Whether the directory at the end of a zip file is there, as long as it says."""
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return False
    return len(tail) - at - 22 >= int.from_bytes(tail[at + 20 : at + 22], "little")


def _safetensors_ends(file: Any, begin: bytes, size: int) -> bool:
    length = int.from_bytes(begin, "little")
    if len(begin) < 8 or not 2 <= length <= min(_MOST_HEADER, size - 8):
        return False
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
        return bool(size == 8 + length + max(ends, default=0))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return False
