"""When what stands in a log was written: marks, kept beside it, since the log itself is the program's own bytes.

`attempts/<n>/log.times` holds lines of one width, an offset and a time: up to that many bytes had been written by then.
The supervisor adds one each second in which the log grew. The file stays below a size: where it reaches it, every
second mark of its older half goes, so that what is long past is known to some seconds only. A log that was cut begins
again, and so do its marks.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from runctl import record

WIDTH = 30
MOST_BYTES = 1 << 20
_LAST_MOMENT = 9_999_999_999.0
_LAST_OFFSET = 10**15 - 1


class Marks:
    """The marks of one log as they are now; none where the file is absent. What is damaged in it counts for nothing."""

    def __init__(self, path: Path) -> None:
        try:
            with record.open_file(path) as file:
                data = file.read(4 * MOST_BYTES)
        except OSError:
            data = b""
        self._data = data
        self._count = len(data) // WIDTH
        if self._count and not all(_parse(self._slice(index)) for index in (0, self._count - 1)):
            self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[int, float]:
        """(offset, time) of a mark; (0, 0.0) for one that cannot be read. Raises IndexError."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        return _parse(self._slice(index)) or (0, 0.0)

    def reaching(self, end: int) -> tuple[int, float] | None:
        """The first mark at or behind `end`: the byte before that had been written by its time. None if none is."""
        index = bisect_left(range(self._count), end, key=lambda at: self[at][0])
        found = self[index] if index < self._count else (0, 0.0)
        return found if found[1] else None

    def since(self, moment: float) -> int:
        """The offset before which all was written earlier than `moment`; the last mark's if all of it was."""
        before = 0
        for offset, at in self._all():
            if at >= moment:
                return before
            before = offset
        return before

    def until(self, moment: float) -> int:
        """The offset up to which all was written by `moment`."""
        reached = 0
        for offset, at in self._all():
            if at > moment:
                break
            reached = offset
        return reached

    def _all(self) -> Iterator[tuple[int, float]]:
        return (self[index] for index in range(self._count))

    def _slice(self, index: int) -> bytes:
        return self._data[index * WIDTH : (index + 1) * WIDTH]


class Writer:
    """The one writer of a log's marks; raises OSError where they cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            size = path.stat().st_size
            if size % WIDTH:  # torn by a kill
                os.truncate(path, size - size % WIDTH)
        except FileNotFoundError:
            pass

    def add(self, offset: int, moment: float) -> None:
        with self._path.open("ab") as file:
            file.write(_line(offset, moment))
            size = file.tell()
        if size >= MOST_BYTES:
            self._thin()

    def clear(self) -> None:
        """Forget all: the log was cut."""
        self._path.unlink(missing_ok=True)

    def _thin(self) -> None:
        data = self._path.read_bytes()
        lines = [data[at : at + WIDTH] for at in range(0, len(data), WIDTH)]
        half = len(lines) // 2
        kept = lines[1:half:2] + lines[half:]  # the later of two: it holds for the bytes of both
        record.write_text(self._path, b"".join(kept).decode("ascii", "replace"))


def _line(offset: int, moment: float) -> bytes:
    return f"{min(offset, _LAST_OFFSET):15d} {min(max(moment, 0.0), _LAST_MOMENT):13.2f}\n".encode()


def _parse(line: bytes) -> tuple[int, float] | None:
    try:
        offset, moment = int(line[:15]), float(line[16:29])
    except ValueError:
        return None
    return (offset, moment) if offset >= 0 and 0.0 <= moment <= _LAST_MOMENT and line.endswith(b"\n") else None
