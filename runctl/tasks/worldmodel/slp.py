"""Slippi replays (`.slp`, `.slp.gz`) → `Game`.

The file's frame is checked by hand first (`slp_header`), because that names what is wrong with it. Then peppi-py
parses it; what peppi refuses is read by py-slippi. Decisions, each with its reason:

- A recording that was cut off is skipped even where its first half could be read: it is another game by identity
  (frame count) than its whole copy, and both could land on different sides of the split. A recording whose length
  was never filled in (a broken stream) is whole if its game-end event is there.
- A game counts as too short with fewer than 120 frames after the countdown (ids 0 and up). The 123 frames of the
  countdown are kept: the players can already move in some of them.
- After a rollback a frame appears again; its last row is what happened. Ids must then follow each other without
  gaps: a window over a gap would teach a jump that never was.
- Of Ice Climbers the leader is read. The character is the one of each frame (Zelda and Sheik change).
- Hitstun shares its place in memory with other counters: it counts only while the in-hitstun flag is set.
- A stage beyond the vocabulary skips the game: it is not a versus stage, and no other id could stand for it.
- No parser sees a name: they are blanked in the bytes beforehand.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from runctl import install
from runctl.config.model import Encoding
from runctl.errors import RunctlError
from runctl.tasks.worldmodel import slp_header, slp_peppi, slp_python
from runctl.tasks.worldmodel.games import Array, Game, Player, Skip
from runctl.tasks.worldmodel.pack import needs, too_old
from runctl.tasks.worldmodel.slp_columns import Recording, player_columns

MIN_PLAYED_FRAMES = 120
MAX_BYTES = 512 * 2**20
GZIP = b"\x1f\x8b"


def read(path: Path, name: str, encoding: Encoding) -> Game:
    """The game in a replay file; raises Skip with the reason if it cannot be used under this encoding.

    Raises RunctlError if no parser is installed, OSError if the file cannot be read.
    """
    return parse(_bytes(path), name, encoding)


def parse(data: bytes, name: str, encoding: Encoding) -> Game:
    """The game in the (uncompressed) bytes of a replay; raises Skip."""
    header = slp_header.read(data)
    if len(header.players) != 2:
        count = len(header.players)
        raise Skip("not two players", f"{count} player{'s' * (count != 1)}")
    needed = needs(encoding)
    missing = [field for field in header.lacks() if field in needed]
    if missing:
        raise too_old(missing, header.version)
    if header.stage >= encoding.stage_vocab:
        raise Skip("unknown stage", f"stage {header.stage}, but stage_vocab is {encoding.stage_vocab}")
    recording = _parsed(slp_header.bare(data, header), header)
    rows = kept_rows(recording.ids, recording.whole)
    ids = recording.ids[rows]
    played = int(np.count_nonzero(ids >= 0))
    if played < MIN_PLAYED_FRAMES:
        raise Skip("too short", f"{played} frames after the countdown, at least {MIN_PLAYED_FRAMES} are needed")
    if not np.array_equal(ids, np.arange(ids[0], ids[0] + len(ids))):
        raise Skip("frames missing", f"{int(ids[-1] - ids[0]) + 1 - len(ids)} frames between the first and the last")
    columns = player_columns(recording, rows)
    low, high = (Player(port, header.players[port], columns[port]) for port in sorted(header.players))
    return Game(name, header.stage, (low, high), header.started, header.version)


def kept_rows(ids: Array, whole: Array) -> Array:
    """Indices of the rows to keep, (N,), in the order of their frame ids: the last row of each id.

    `whole` (rows,) says where both players have data. An id whose last row is not whole is left out.
    """
    _, last = np.unique(ids[::-1], return_index=True)
    rows: Array = len(ids) - 1 - last
    kept: Array = rows[whole[rows]]
    return kept


def _parsed(data: bytes, header: slp_header.Header) -> Recording:
    """The recording by the first parser that reads it; raises Skip if none does, RunctlError if none is installed."""
    failures = []
    installed = False
    for parser in (slp_peppi, slp_python):
        try:
            recording: Recording = parser.read(data, sorted(header.players))
        except ImportError:
            continue
        except parser.Refused as refused:
            failures.append(f"{parser.NAME}: {refused}")
            installed = True
            continue
        return recording
    if not installed:
        message = "reading replays needs peppi-py, pyarrow and py-slippi, which are not installed"
        raise RunctlError(message, hint=install.hint("melee"))
    raise Skip("corrupt", "; ".join(failures))


def _bytes(path: Path) -> bytes:
    """The replay's bytes, decompressed if they are gzip whatever the name says; raises Skip."""
    if path.stat().st_size > MAX_BYTES:
        raise Skip("too large", f"more than {MAX_BYTES >> 20} MiB")
    data = path.read_bytes()
    if not data.startswith(GZIP):
        if path.name.lower().endswith(".gz") and data and not data.startswith(slp_header.MAGIC[:4]):
            raise Skip("not a replay", "it is not gzip, though its name says so")
        return data
    parts, size = [], 0
    while data.startswith(GZIP):  # a gzip file may have several members
        unzip = zlib.decompressobj(wbits=31)
        try:
            part = unzip.decompress(data, MAX_BYTES + 1 - size)
        except zlib.error:
            raise Skip("corrupt", "its gzip data is damaged") from None
        size += len(part)
        if size > MAX_BYTES:
            raise Skip("too large", f"more than {MAX_BYTES >> 20} MiB when decompressed")
        if not unzip.eof:
            raise Skip("truncated", "its gzip data ends early")
        parts.append(part)
        data = unzip.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)
