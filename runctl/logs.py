"""The log of an attempt as its program wrote it: its last lines, a part of it, or as it grows. `journal` has the whole
story. Nothing here reads a log from its start to find its end.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from runctl import record, status
from runctl.errors import UsageError
from runctl.light import pattern

_BLOCK = 1 << 16
_LOOK_SECONDS = 0.2
_MOST_LINE = 1 << 20
NEVER = 1 << 62  # an offset that no file has
_CONTROL = pattern(  # all but colours
    r"\x1b\[[0-?]*[ -/]*[@-ln-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b(?!\[[\d;:]*m).?"
    r"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


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
        with record.open_file(path) as file:
            end = file.seek(0, os.SEEK_END)
            begin = 0 if lines is None else _begin_of(file, end, lines)
            file.seek(begin)
            return file.read(end - begin), end
    except OSError:
        return b"", 0


def last_lines(path: Path, lines: int) -> list[str]:
    """The last lines of a log as text."""
    return tail(path, lines)[0].decode("utf-8", errors="replace").splitlines()


def begin_of(path: Path, end: int, lines: int) -> int:
    """The offset where the last `lines` lines before `end` begin; `end` if the file cannot be read."""
    try:
        with record.open_file(path) as file:
            return _begin_of(file, end, lines)
    except OSError:
        return end


def line_start(path: Path, position: int, floor: int = 0) -> int:
    """Where the line begins of which the byte at `position` is a part; not looked for before `floor`."""
    try:
        with record.open_file(path) as file:
            return max(next(_newlines(file, position, floor), -1) + 1, floor)
    except OSError:
        return position


def size(path: Path) -> int:
    """The bytes of a file; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def follow(run: record.RunDir, path: Path, position: int, *, later: bool = True) -> Iterator[bytes]:
    """What is added to a log from `position` on, until the run has ended and all of it is read, and then to the logs of
    the attempts that follow, if they are wanted (`later`). A log that was cut is read from its start again."""
    while True:
        following = _following(run, path)
        over = following is not None or status.observe(run).over
        if size(path) < position:
            position = 0
        for chunk in read_from(path, position):
            position += len(chunk)
            yield chunk
        if following is not None and later:
            path, position = following, 0
        elif over:
            return
        else:
            time.sleep(_LOOK_SECONDS)


def read_from(path: Path, position: int, end: int | None = None) -> Iterator[bytes]:
    """What a file holds from `position` on, up to `end`; nothing if it does not exist."""
    try:
        with record.open_file(path) as file:
            file.seek(position)
            while chunk := file.read(_BLOCK if end is None else min(_BLOCK, end - position)):
                position += len(chunk)
                yield chunk
    except OSError:
        return


def lines(path: Path, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines of a part of a file, without their newline, each with the offset behind it; the last one also where
    it has none. Of a line that was written over and over (a progress bar) only what it was in the end is kept."""
    position, rest = begin, b""
    for chunk in read_from(path, begin, end):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            position += len(line) + 1
            yield position, line
        if len(rest) > _MOST_LINE:  # a bar that never ends its line, or no text at all
            kept = rest[cut + 1 :] if (cut := rest.rfind(b"\r", 0, -1)) >= 0 else b""
            position += len(rest) - len(kept)
            if cut < 0:
                yield position, rest
            rest = kept
    if rest:
        yield position + len(rest), rest


def backwards(path: Path, end: int) -> Iterator[bytes]:
    """The lines before `end`, the last one first; one without its newline is left out."""
    try:
        with record.open_file(path) as file:
            stop = None
            for before in itertools.chain(_newlines(file, end), (-1,)):
                if stop is not None:
                    file.seek(before + 1)
                    yield file.read(stop - before - 1)
                stop = before
    except OSError:
        return


def row(line: bytes) -> dict[str, Any]:
    """A line of a JSON-lines file; {} where it holds no object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def shown(line: bytes) -> str:
    """A line as a terminal shows it in the end: the last state of a progress bar, colours but no other control."""
    return _CONTROL.sub("", line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace"))


def matcher(text: str) -> Callable[[str], bool]:
    """Whether a line holds TEXT, in capitals or not, or matches /REGEX/ (/REGEX/i: in capitals or not). Raises
    UsageError for what is no regular expression."""
    ends = {"/": 0, "/i": re.IGNORECASE}
    for end, flags in ends.items():
        if len(text) > len(end) + 1 and text.startswith("/") and text.endswith(end):
            try:
                found = re.compile(text[1 : -len(end)], flags)
            except re.error as error:
                raise UsageError(f"--search: {text} is no regular expression: {error}") from None
            return lambda line: found.search(line) is not None
    wanted = text.casefold()
    return lambda line: wanted in line.casefold()


def hint(text: str | None) -> bytes | None:
    """Bytes that a line in lower case has if it holds TEXT: most lines need not be read to be left out."""
    plain = text is not None and text.isascii() and text.isprintable() and not text.startswith("/")
    return text.lower().encode() if text is not None and plain else None


def _following(run: record.RunDir, path: Path) -> Path | None:
    """The log of the attempt after that of a log, if there is one."""
    number = path.parent.name
    later = [entry for entry in run.attempts() if number.isdigit() and entry.number > int(number)]
    return later[0].log if later else None


def _begin_of(file: BinaryIO, end: int, lines: int) -> int:
    """The offset where the last `lines` lines before `end` begin."""
    if lines <= 0 or end <= 0:
        return max(0, end)
    for found in _newlines(file, end - 1):  # a newline at the very end begins no line
        lines -= 1
        if not lines:
            return found + 1
    return 0


def _newlines(file: BinaryIO, end: int, floor: int = 0) -> Iterator[int]:
    """The offsets of the newlines between `floor` and `end`, the last one first, read in blocks."""
    while end > floor:
        begin = max(floor, end - _BLOCK)
        file.seek(begin)
        block = file.read(end - begin)
        found = block.rfind(b"\n")
        while found >= 0:
            yield begin + found
            found = block.rfind(b"\n", 0, found)
        end = begin
