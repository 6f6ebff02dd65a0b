"""An encoded dataset: a folder with `frames.bin` (memory-mapped; on a volume in parts, see parts.py) and
`manifest.json` (written last).

Reading one costs a few pages: the manifest is parsed, the frames are mapped and stay on disk until they are used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runctl.errors import DataError
from runctl.filekind import other_than_file
from runctl.tasks.worldmodel import parts
from runctl.tasks.worldmodel.encoding import Layout
from runctl.tasks.worldmodel.games import Array
from runctl.tasks.worldmodel.split import sides

SCHEMA_VERSION = 1
KIND = "encoded-dataset"
FRAMES = "frames.bin"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class GameEntry:
    """Where one game lies: records `start` … `start + frames`."""

    start: int
    frames: int
    identity: str
    source: str


@dataclass(frozen=True)
class Dataset:
    """An open dataset. `records` is a read-only memory map, uint8 (N, R), of the file `stored`."""

    path: Path
    manifest: dict[str, Any]
    layout: Layout
    games: tuple[GameEntry, ...]
    records: Array
    stored: Path

    @property
    def digest(self) -> str:
        """The digest of the encoding that these frames were stored with."""
        return str(self.manifest["encoding_digest"])


def open(path: Path | str) -> Dataset:
    """Open an encoded dataset; raises DataError if it is absent, unfinished, damaged, or of a later format."""
    folder = Path(path)
    manifest = read_manifest(folder)
    stored = parts.whole(folder, manifest)
    try:
        layout = Layout.from_manifest(manifest["layout"])
        games = tuple(
            GameEntry(game["start"], game["frames"], game["identity"], game["source"]) for game in manifest["games"]
        )
        frames = int(manifest["frames"])
        size = stored.stat().st_size
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / MANIFEST} is damaged: {error!r}", hint="encode again with --overwrite") from None
    except OSError as error:
        message = f"{folder / FRAMES} cannot be read: {error.strerror}"
        raise DataError(message, hint="encode again with --overwrite") from None
    if size != frames * layout.record_bytes or frames == 0 or sum(game.frames for game in games) != frames:
        raise DataError(
            f"{folder / FRAMES} has {size} bytes, but its manifest says {frames} frames of {layout.record_bytes} bytes",
            hint="encode again with --overwrite",
        )
    records = np.memmap(stored, np.uint8, mode="r", shape=(frames, layout.record_bytes))
    return Dataset(folder, manifest, layout, games, records, stored)


@dataclass(frozen=True)
class Unmapped:
    """The records of a dataset for whoever reads them from front to back: a slice is read from the file, and only that
    is held."""

    data: Dataset

    def __getitem__(self, records: slice) -> Array:
        """uint8 (stop - start, R), in memory of its own."""
        width = self.data.layout.record_bytes
        count = (records.stop - records.start) * width
        read: Array = np.fromfile(self.data.stored, np.uint8, count, offset=records.start * width)
        return read.reshape(-1, width)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset; raises DataError saying what is there instead."""
    path = folder / MANIFEST
    if folder.is_file():
        message = f"{folder} is a file, not the folder of an encoded dataset"
        raise DataError(message, hint="give the folder that runctl encode made")
    if kind := other_than_file(path):
        raise DataError(f"{path} is {kind}, not a file", hint="encode again with --overwrite")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        partial = folder.with_name(folder.name + ".partial")
        if folder.exists():
            message = f"{folder} has no {MANIFEST}: it is not an encoded dataset, or not a whole one"
        elif partial.is_dir():
            message = f"{folder} is not finished: an interrupted encode left {partial.name}"
        else:
            message = f"no encoded dataset at {folder}"
        raise DataError(message, hint="make it with: runctl encode CONFIG --replays FOLDER") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="encode again with --overwrite") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise DataError(f"{path} is not the manifest of an encoded dataset")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {manifest.get('schema_version')}; this runctl reads {SCHEMA_VERSION}",
            hint="encode again, or use the runctl that wrote it",
        )
    return manifest


def split(games: Sequence[GameEntry], train_split: float) -> tuple[list[int], list[int]]:
    """(training, validation) indices into `games`: see `split.sides`."""
    return sides([game.identity for game in games], train_split)


class Windows:
    """The windows of `context + 1` consecutive frames that lie inside one of the given games: `context` input frames
    and the target frame after them. They are numbered game by game, and none of them is listed: two numbers for each
    game are kept, however many windows it has."""

    def __init__(self, games: Sequence[GameEntry], ids: Sequence[int], context: int) -> None:
        long = [games[index] for index in ids if games[index].frames > context]
        counts: Array = np.array([game.frames - context for game in long], np.int64)
        firsts: Array = np.array([game.start for game in long], np.int64)
        self._ends: Array = np.cumsum(counts)  # the number after each game's last window
        self._away: Array = firsts - (self._ends - counts)  # from a window's number to its first frame

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, numbers: Array) -> Array:
        """The first frames, int64, of the windows with these numbers."""
        starts: Array = numbers + self._away[np.searchsorted(self._ends, numbers, side="right")]
        return starts
