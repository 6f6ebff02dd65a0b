"""Files of a record: written whole or not at all, and read by who does not trust them.

A reader never fails on a file that is missing, damaged, or no file: it gets nothing. A writer goes through no link and
no named pipe that was put in the file's place.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 64 << 20  # of a file that holds one JSON object
_MOST_LINE = 4 << 20  # of a JSON-lines file


def write_text(path: Path, text: str) -> None:
    """Replace `path` atomically and durably: temporary file, fsync, rename, fsync of the folder."""
    if not path.name:  # `.`, `/`
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=no_link) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """Replace `path` atomically with JSON; `durable=False` leaves out the fsyncs (heartbeats)."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if durable:
        write_text(path, text)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=no_link) as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line with a single write, healing a torn last line left by a kill."""
    line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", opener=no_link) as file:
        if file.tell() and not _ends_whole(path):
            line = "\n" + line
        file.write(line.encode())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def no_link(path: str, flags: int) -> int:
    """Open a file to be written, never through a link that was put in its place, never a named pipe."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no file", str(path))


def open_file(path: Path, *, links: bool = True) -> BinaryIO:
    """A file, to be read. Raises OSError for anything else in its place: a named pipe would never answer. A link may
    lead out of the run: it is followed unless not `links`."""
    return os.fdopen(_opened(path, links)[0], "rb")


def read_bytes(path: Path | str) -> bytes:
    """What a file holds, as far as it was written when it was opened. Raises OSError, also for what is no file."""
    descriptor, size = _opened(path)
    try:
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES >> 20} MiB", str(path))
        data = os.read(descriptor, size)
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


def read_json(path: Path | str) -> Any | None:
    """The JSON in `path`; None if it is absent or damaged (a reader never fails on a run's files)."""
    try:
        return json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; {} if there is none."""
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def read_head(path: Path | str, needed: str, end: str) -> Any | None:
    """The JSON object in `path` as far as its key `end`, as `write_json` writes it; all of it where that leaves out the
    key `needed`. None as `read_json` says it. The rest is not looked at, but that the file ends as an object does."""
    try:
        data = read_bytes(path)
        at = data.find(f'\n  "{end}": '.encode())  # a line break within a text is written \n: this is the key itself
        if at > 0 and data.endswith(b"}\n"):
            head = json.loads(data[:at].removesuffix(b",") + b"}")
            if needed in head:
                return head
        return json.loads(data)
    except (OSError, ValueError, RecursionError, TypeError):
        return None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole, valid rows of a JSON-lines file; torn or damaged lines are left out."""
    try:
        file = open_file(path)
    except OSError:
        return
    with file:
        whole = True
        while line := file.readline(_MOST_LINE):
            ends = line.endswith(b"\n")
            if whole and ends:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield row
            whole = ends  # else the rest of a line that is too long


def damage(path: Path) -> str:
    """What is wrong with a file that should hold a JSON object, as a sentence; "" if nothing is."""
    try:
        data = read_bytes(path)
        content = json.loads(data.decode("utf-8"))
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return f"{path.name} is damaged: its {len(data):,} bytes are not text"
    except json.JSONDecodeError as error:
        return f"{path.name} is damaged: " + (f"{error.msg} at line {error.lineno}" if data.strip() else "it is empty")
    except (ValueError, RecursionError) as error:
        return f"{path.name} is damaged: {error}"
    return "" if isinstance(content, dict) else f"{path.name} is damaged: it holds no JSON object"


@contextmanager
def private(shared: bool = False) -> Iterator[None]:
    """What is written meanwhile is for this user only; `shared`: for the group to read. Not for threads."""
    before = os.umask(0o027 if shared else 0o077)
    try:
        yield
    finally:
        os.umask(before)


def private_as(folder: Path) -> int:
    """The umask under which a run's files are for whom its folder is: nobody else, or its group."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return 0o077
    return 0o077 & ~(mode & 0o055)


def _opened(path: Path | str, links: bool = True) -> tuple[int, int]:
    """A descriptor of a file that is one, and how many bytes it has."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return descriptor, about.st_size


def _ends_whole(path: Path) -> bool:
    with open_file(path) as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
