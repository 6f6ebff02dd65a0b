"""An encode under way: the folder `<out>.partial`, which a later encode continues.

    frames.bin      records of the games so far
    journal.jsonl   first line: the job; then one line for each source that is done, with the end of its frames
    lock            held while an encode writes here

A source's line is written after its frames; whatever lies beyond the last whole line is cut off on continuing.
The lines must match the sources of the new encode in order (name, size, time of change): the first that does not,
and all after it, are done again. When all is done the folder gets its manifest and its final name.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runctl import record
from runctl.errors import UsageError
from runctl.tasks.worldmodel.dataset import FRAMES, MANIFEST

JOURNAL, LOCK = "journal.jsonl", "lock"


@dataclass
class Partial:
    """An open partial folder: `rows` are the journal's lines that still hold; `size` is the bytes of frames so far."""

    path: Path
    rows: int
    size: int
    frames: IO[bytes]
    journal: IO[bytes]
    lock: IO[bytes]

    def append(self, row: dict[str, Any], blocks: Sequence[Any]) -> None:
        """Add the frames of one source, then its line. An interrupt between the two costs that source only."""
        for block in blocks:
            self.frames.write(block)
            self.size += memoryview(block).nbytes
        self.frames.flush()
        self.journal.write(_line({**row, "end": self.size}))
        self.journal.flush()

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines that still hold, one at a time."""
        with (self.path / JOURNAL).open("rb") as file:
            next(file)
            for _, line in zip(range(self.rows), file, strict=False):
                yield json.loads(line)

    def finish(self, manifest: dict[str, Any], out: Path) -> None:
        """Make the folder the dataset `out`, replacing the one that is there. The manifest is its last file."""
        os.fsync(self.frames.fileno())
        record.write_json(self.path / MANIFEST, manifest)
        self.frames.close()
        replaced = out.with_name(f"{out.name}.replaced")
        if out.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            out.rename(replaced)
        self.path.rename(out)
        record.sync_folder(out.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        for name in (JOURNAL, LOCK):
            (out / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder: nothing in it is worth keeping."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        for file in (self.frames, self.journal, self.lock):
            file.close()


def folder(out: Path) -> Path:
    """Where an encode into `out` works."""
    return out.with_name(f"{out.name}.partial")


def open(out: Path, job: dict[str, Any], stamps: Sequence[list[Any]]) -> Partial:
    """Begin or continue; raises UsageError while another encode writes to the same place."""
    path = folder(out)
    path.mkdir(parents=True, exist_ok=True)
    lock = (path / LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        message = f"another encode is writing to {path}"
        raise UsageError(message, hint="wait for it, or choose another place with --out") from None
    rows, journal_end, frames_end = _holding(path, job, stamps)
    journal = (path / JOURNAL).open("ab")
    journal.truncate(journal_end)
    if journal_end == 0:
        journal.write(_line(job))
        journal.flush()
    frames = (path / FRAMES).open("ab")
    frames.truncate(frames_end)
    (path / MANIFEST).unlink(missing_ok=True)
    return Partial(path, rows, frames_end, frames, journal, lock)


def _holding(path: Path, job: dict[str, Any], stamps: Sequence[list[Any]]) -> tuple[int, int, int]:
    """(lines that still hold, where they end in the journal, where their frames end)."""
    try:
        lines = (path / JOURNAL).open("rb")
        stored = (path / FRAMES).stat().st_size
    except OSError:
        return 0, 0, 0
    with lines:
        first = lines.readline()
        if _parse(first) != job:
            return 0, 0, 0
        rows, journal_end, frames_end = 0, len(first), 0
        for line, stamp in zip(lines, stamps, strict=False):
            row = _parse(line)
            if row is None or row.get("stamp") != stamp or row["end"] > stored:
                break
            rows, journal_end, frames_end = rows + 1, journal_end + len(line), row["end"]
    return rows, journal_end, frames_end


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
