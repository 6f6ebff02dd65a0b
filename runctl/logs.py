"""The log of an attempt as its program wrote it: its last lines, or as it grows. `journal` has the whole story."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runctl import record, status
from runctl.errors import UsageError

_BLOCK = 1 << 16
_LOOK_SECONDS = 0.2


def find(run: record.RunDir, attempt: int | None = None, supervisor: bool = False) -> Path:
    """The log file asked for (the newest attempt's by default); raises UsageError for an unknown attempt."""
    if supervisor:
        return run.supervisor_log
    known = [entry.number for entry in run.attempts()]
    if attempt is not None and attempt not in known:
        said = f"it has {len(known)}" if known else "none has started"
        raise UsageError(f"{run.name} has no attempt {attempt}: {said}", hint="leave out --attempt for the newest")
    return run.attempt(attempt or (known[-1] if known else 1)).log


def tail(path: Path, lines: int | None) -> tuple[bytes, int]:
    """The last `lines` lines of a file (all of it for None) and where it ended; (b"", 0) if it does not exist."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            begin = 0 if lines is None else _begin_of(file, end, lines)
            file.seek(begin)
            return file.read(end - begin), end
    except OSError:
        return b"", 0


def last_lines(path: Path, lines: int) -> list[str]:
    """The last lines of a log as text."""
    return tail(path, lines)[0].decode("utf-8", errors="replace").splitlines()


def follow(run: record.RunDir, path: Path, position: int) -> Iterator[bytes]:
    """What is added to a log from `position` on, until the run has ended and all of it is read."""
    while True:
        over = status.observe(run).over
        for chunk in read_from(path, position):
            position += len(chunk)
            yield chunk
        if over:
            return
        time.sleep(_LOOK_SECONDS)


def read_from(path: Path, position: int) -> Iterator[bytes]:
    """What a file holds from `position` on; nothing if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            while chunk := file.read(_BLOCK):
                yield chunk
    except OSError:
        return


def _begin_of(file: BinaryIO, end: int, lines: int) -> int:
    """The offset where the last `lines` lines begin, reading backwards in blocks."""
    if lines <= 0:
        return end
    found, position = 0, end
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        for index in range(len(block) - 1, -1, -1):
            if block[index] == 0x0A and position + index != end - 1:
                found += 1
                if found == lines:
                    return position + index + 1
    return 0
