"""The frames of a dataset in parts, as they lie on a volume: small enough to be sent again, named by their contents.

    frames/00000-3f5a9c01d2b7e8a4.bin    64 MiB each, the last one what is left
    manifest.json                        the dataset's own, with `parts`; written last

A trainer reads windows from everywhere in the frames, which is what a network's file system does worst. So where a
dataset comes in parts, they are put together once on the machine's own disk, and read from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runctl.errors import DataError
from runctl.light import asdict, dataclass

FOLDER = "frames"
PART_BYTES = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """Bytes `start` … `start + size` of the frames; `name` is its path below the dataset."""

    name: str
    start: int
    size: int
    sha256: str


def cut(frames: Path) -> Iterator[Part]:
    """The parts of a file, one by one: reading them all takes as long as reading the file."""
    with frames.open("rb") as file:
        start = number = 0
        while size := (found := _digest(file, PART_BYTES))[1]:
            yield Part(f"{FOLDER}/{number:05d}-{found[0][:16]}.bin", start, size, found[0])
            start, number = start + size, number + 1


def _digest(file: Any, most: int) -> tuple[str, int]:
    """(sha256, size) of the next `most` bytes of an open file."""
    digest, size = hashlib.sha256(), 0
    while size < most and (data := file.read(min(_CHUNK, most - size))):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size


def named(parts: list[Part]) -> list[dict[str, Any]]:
    """The parts as a manifest lists them."""
    return [asdict(part) for part in parts]


def listed(manifest: Mapping[str, Any]) -> list[Part]:
    """The parts that a manifest lists, none where its frames are one file; raises DataError where it is damaged."""
    try:
        found = [Part(one["name"], one["start"], one["size"], one["sha256"]) for one in manifest.get("parts") or ()]
        ends = [0, *(part.start + part.size for part in found)]
        if all(part.start == end for part, end in zip(found, ends, strict=False)):
            return found
    except (KeyError, TypeError):
        pass
    raise DataError("the dataset's manifest is damaged: its parts are not what they must be", hint="push it again")


def whole(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """The one file of a dataset's frames: its own, or its parts put together on this machine's disk, once for all
    processes. Raises DataError where a part is missing or damaged."""
    own = folder / "frames.bin"
    parts = listed(manifest)
    if not parts or own.exists():
        return own
    name = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()[:16]
    there = Path(tempfile.gettempdir()) / f"runctl-frames-{os.getuid()}-{name}"
    there.mkdir(mode=0o700, exist_ok=True)
    made = there / "frames.bin"
    with open(there / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _join(folder, parts, made)
    return made


def _join(folder: Path, parts: list[Part], made: Path) -> None:
    begun = made.with_suffix(".joining")
    with begun.open("wb") as out:
        for part in parts:
            digest, size = hashlib.sha256(), 0
            try:
                with (folder / part.name).open("rb") as file:
                    while data := file.read(_CHUNK):
                        digest.update(data)
                        size += len(data)
                        out.write(data)
            except FileNotFoundError:
                raise DataError(f"{folder / part.name} is missing", hint="runctl data push sends it again") from None
            if (size, digest.hexdigest()) != (part.size, part.sha256):
                raise DataError(f"{folder / part.name} is damaged", hint="runctl data push --overwrite sends it again")
    begun.replace(made)
