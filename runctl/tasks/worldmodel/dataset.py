"""An encoded dataset: a folder with `frames.bin` (memory-mapped) and `manifest.json` (written last).

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
from runctl.tasks.worldmodel.encoding import Layout
from runctl.tasks.worldmodel.games import Array

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
    """An open dataset. `records` is a read-only memory map, uint8 (N, R)."""

    path: Path
    manifest: dict[str, Any]
    layout: Layout
    games: tuple[GameEntry, ...]
    records: Array

    @property
    def digest(self) -> str:
        """The digest of the encoding that these frames were stored with."""
        return str(self.manifest["encoding_digest"])


def open(path: Path | str) -> Dataset:
    """Open an encoded dataset; raises DataError if it is absent, unfinished, damaged, or of a later format."""
    folder = Path(path)
    manifest = read_manifest(folder)
    try:
        layout = Layout.from_manifest(manifest["layout"])
        games = tuple(
            GameEntry(game["start"], game["frames"], game["identity"], game["source"]) for game in manifest["games"]
        )
        frames = int(manifest["frames"])
        size = (folder / FRAMES).stat().st_size
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
    records = np.memmap(folder / FRAMES, np.uint8, mode="r", shape=(frames, layout.record_bytes))
    return Dataset(folder, manifest, layout, games, records)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset; raises DataError saying what is there instead."""
    path = folder / MANIFEST
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
    """(training, validation) indices into `games`: whole games, by the rank of their identities' hashes.

    The last `1 − train_split` of the ranks are held out, at least one game on each side where there are two.
    The order of the files plays no part. A game's side may change only when games are added or removed.
    """
    ranked = sorted(range(len(games)), key=lambda index: (games[index].identity, index))
    count = round(len(games) * train_split)
    if len(games) >= 2:
        count = min(max(count, 1), len(games) - 1)
    return sorted(ranked[:count]), sorted(ranked[count:])


def window_starts(games: Sequence[GameEntry], ids: Sequence[int], context: int) -> Array:
    """First frames, int64 (W,), of all windows of `context + 1` consecutive frames that lie inside one game.

    A window is `context` input frames and the target frame after them.
    """
    ranges: list[Array] = [
        np.arange(games[index].start, games[index].start + games[index].frames - context, dtype=np.int64)
        for index in ids
        if games[index].frames > context
    ]
    return np.concatenate(ranges) if ranges else np.empty(0, np.int64)
