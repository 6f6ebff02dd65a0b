"""Hide the secrets of a file where they stand: as many asterisks at the same offset, so that whoever appends to the
file, reads it or counts its bytes notices nothing.

A log grows while it is read. What was read stays in memory up to the last line break, so that a secret that was written
in two pieces is whole at the next look; what of it stood in the file meanwhile is hidden then. Bytes that are no ASCII
are looked through, one for one: offsets in the text are offsets in the file.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from runctl.light import dataclass
from runctl.masking import spans
from runctl.masking.known import NOTHING, Known

BLOCK_BYTES = 1 << 16
_KEPT_BYTES = 1 << 14  # of a line without an end, or of a key that goes on, for the next look


@dataclass(frozen=True)
class Found:
    """A secret that was hidden: what it is in words, and its line, counted from 1."""

    kind: str
    line: int


class Masker:
    """Hides the secrets of one file as it grows. A link, or a file of more than one name, is left alone: it may be
    somebody else's."""

    def __init__(self, path: Path, known: Known = NOTHING, more: spans.More | None = None) -> None:
        self.path, self.known, self.more = path, known, more
        self._again()
        self.tokens = False  # whether anything was seen that may be one
        self._descriptor = -1  # kept: a file that is deleted and made anew must not get the same number

    def _again(self) -> None:
        self.offset = 0  # of the first byte that was not read
        self._rest = ""
        self._line = 1  # of the first byte of the rest
        self._seen: set[tuple[int, str]] = set()

    def look(self, most_bytes: int = BLOCK_BYTES, most_seconds: float = float("inf")) -> list[Found]:
        """Read on, at most so much and so long; returns what was hidden. Raises OSError where it cannot be."""
        found: list[Found] = []
        deadline = time.monotonic() + most_seconds
        if not self._open():
            return found
        if os.fstat(self._descriptor).st_size < self.offset:
            self._again()  # cut
        read = 0
        while read < most_bytes:
            data = os.pread(self._descriptor, min(BLOCK_BYTES, most_bytes - read), self.offset)
            if not data:
                break
            read += len(data)
            found += self._block(self._descriptor, data)
            if time.monotonic() >= deadline:
                break
        return found

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> bool:
        """Whether there is a file to look at: the one of the last look, or what stands in its place now."""
        if self._descriptor >= 0:
            try:
                now, before = self.path.lstat(), os.fstat(self._descriptor)
                if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino) and now.st_nlink == 1:
                    return True
            except OSError:
                pass
            self.close()
            self._again()
        self._descriptor = _opened(self.path)
        return self._descriptor >= 0

    @property
    def behind(self) -> int:
        """Bytes of the file that were not looked at yet."""
        try:
            about = self.path.lstat()
        except OSError:
            return 0
        return max(0, about.st_size - self.offset) if stat.S_ISREG(about.st_mode) else 0

    def _block(self, descriptor: int, data: bytes) -> list[Found]:
        text = self._rest + data.decode("ascii", "surrogateescape")
        start = self.offset - len(self._rest)
        self.offset += len(data)
        self.tokens = self.tokens or next(spans.tokens(text), -1) >= 0
        self.tokens = self.tokens or next(spans.tokens(text), -1) >= 0
        found = []
        kept = text.rfind("\n") + 1
        for span in spans.find(text, self.known, self.more):
            if _cover(descriptor, start + span.begin, text[span.begin : span.end]):
                place = (start + span.begin, span.kind)
                if place not in self._seen:
                    self._seen.add(place)
                    found.append(Found(span.kind, self._line + text.count("\n", 0, span.begin)))
            if span.end >= kept > span.begin:  # a key over several lines that may go on
                kept = span.begin
        kept = max(kept, len(text) - _KEPT_BYTES)
        self._line += text.count("\n", 0, kept)
        self._rest = text[kept:]
        self._seen = {place for place in self._seen if place[0] >= start + kept}
        return found


def mask(
    path: Path, known: Known = NOTHING, more: spans.More | None = None, most_seconds: float = float("inf")
) -> list[Found]:
    """Hide the secrets of a whole file; raises OSError where it cannot be written to."""
    masker = Masker(path, known, more)
    try:
        return masker.look(1 << 62, most_seconds)
    finally:
        masker.close()


def _opened(path: Path) -> int:
    """The file to read and write; -1 where there is none, or nothing that may be changed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    except OSError:
        if path.is_symlink() or not path.is_file():
            return -1
        raise
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    return -1


def _cover(descriptor: int, offset: int, text: str) -> bool:
    """Write asterisks over a text, if it still stands there (or is hidden in part); False if it does not."""
    data = text.encode("ascii", "surrogateescape")
    now = os.pread(descriptor, len(data), offset)
    if len(now) != len(data) or any(b not in (a, 0x2A) for a, b in zip(data, now, strict=True)):
        return False  # cut or written anew meanwhile
    hidden = bytes(byte if byte in b"\r\n" else 0x2A for byte in data)
    if hidden == now:
        return True
    return os.pwrite(descriptor, hidden, offset) == len(hidden)
