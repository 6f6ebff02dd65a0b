"""The frame of a Slippi replay, read by hand: enough to say what is wrong with a file before any parser runs.

A `.slp` file is a UBJSON object `{raw: [bytes], metadata: {…}}`. The raw element is a stream of events, each one a
code and a payload; the first event lists the payload size of every code, the second describes the game. Sizes tell
which fields a recording has: later versions only append. (Format: the Slippi replay file specification of
project-slippi/slippi-wiki.) Names, tags and connect codes lie in the game's start and in the metadata: `bare` blanks
the former and leaves out the latter, and parsers are given nothing else.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from runctl.tasks.worldmodel.games import Skip

MAGIC = b"{U\x03raw[$U#l"
EVENT_SIZES, GAME_START, PRE_FRAME, POST_FRAME, GAME_END, ITEM = 0x35, 0x36, 0x37, 0x38, 0x39, 0x3B
PORTS, EMPTY_PORT = 4, 3
STAGE, PLAYERS, PLAYER_BYTES = 0x13, 0x65, 0x24  # offsets in the game-start event, its code included

NAMES = ((0x161, 0x1A1), (0x1A5, 0x2BD))  # name tags; display names, connect codes and user ids
STARTED = re.compile(rb"U\x07startAtS[Ui](.)([0-9TZ:.+-]{10,40})", re.DOTALL)
NO_METADATA = b"U\x08metadata{U\x07startAtSU\x142000-01-01T00:00:00ZU\x08playedOnSU\x07dolphin}}"

# field: offset just behind it in the post-frame event, its code included
POST_ENDS = {  # newest first
    "hitlag": 0x4D,
    "velocities": 0x49,
    "hurtbox": 0x35,
    "l-cancel": 0x34,
    "jumps": 0x33,
    "ground": 0x32,
    "hitstun": 0x2F,
    "state flags": 0x2B,
    "state age": 0x26,
}


@dataclass(frozen=True)
class Header:
    """`players` maps each occupied port (1…4) to the character chosen there; `sizes` maps event codes to payload
    sizes; the events are the bytes from `start` to `end`, the game's start is at `game_start`; `started` is the
    metadata's start time, or None."""

    version: str
    stage: int
    players: dict[int, int]
    sizes: dict[int, int]
    start: int
    game_start: int
    end: int
    started: str | None

    def lacks(self) -> list[str]:
        """The fields, in words, that this recording is too old for."""
        end = self.sizes.get(POST_FRAME, 0) + 1
        missing = [name for name, behind in POST_ENDS.items() if end < behind]
        return missing if ITEM in self.sizes else [*missing, "items"]


def read(data: bytes) -> Header:
    """The header of a replay's bytes; raises Skip for what is no replay, or is cut off."""
    if not data:
        raise Skip("empty file")
    if not data.startswith(MAGIC[: len(data)]):
        raise Skip("not a replay", "it does not begin like a Slippi file")
    start = len(MAGIC) + 4
    if len(data) < start + 2:
        raise Skip("truncated", f"{len(data)} bytes")
    (length,) = struct.unpack_from(">i", data, len(MAGIC))
    if length < 0:
        raise Skip("corrupt", "the length of the recording is negative")
    if start + length > len(data):
        raise Skip("truncated", f"{len(data)} of {start + length} bytes or more")
    try:
        sizes, behind = _sizes(data, start)
        version, stage, players = _game_start(data, behind, sizes)
    except (struct.error, IndexError):
        raise Skip("truncated", "it ends before the game starts") from None
    end = start + length if length else _game_end(data, behind, sizes)
    return Header(version, stage, players, sizes, start, behind, end, _started(data, end))


def bare(data: bytes, header: Header) -> bytes:
    """The same recording, whole and closed, without any name and without metadata."""
    events = bytearray(data[header.start : header.end])
    offset = header.game_start - header.start
    for first, behind in NAMES:
        behind = min(behind, header.sizes[GAME_START] + 1)
        if behind > first:
            events[offset + first : offset + behind] = bytes(behind - first)
    return b"".join((MAGIC, struct.pack(">i", len(events)), events, NO_METADATA))


def _game_end(data: bytes, start: int, sizes: dict[int, int]) -> int:
    """Where the game's end event ends, in a recording whose length was never filled in; raises Skip without one."""
    offset = start
    while offset < len(data) and (code := data[offset]) in sizes:
        offset += 1 + sizes[code]
        if code == GAME_END and offset <= len(data):
            return offset
    raise Skip("truncated", "the recording was never finished")


def _started(data: bytes, end: int) -> str | None:
    found = STARTED.search(data, end)
    return found[2][: found[1][0]].decode("ascii") if found else None


def _sizes(data: bytes, start: int) -> tuple[dict[int, int], int]:
    """({event code: payload size}, offset of the next event)."""
    code, size = data[start], data[start + 1]
    if code != EVENT_SIZES or size % 3 != 1:
        raise Skip("corrupt", "the list of event sizes is damaged")
    sizes: dict[int, int] = {}
    for offset in range(start + 2, start + 1 + size, 3):
        event, length = struct.unpack_from(">BH", data, offset)
        sizes[event] = length
    return sizes, start + 1 + size


def _game_start(data: bytes, start: int, sizes: dict[int, int]) -> tuple[str, int, dict[int, int]]:
    if data[start] != GAME_START or GAME_START not in sizes or sizes[GAME_START] < 0x140:
        raise Skip("corrupt", "the game's start is missing or damaged")
    version = ".".join(str(number) for number in data[start + 1 : start + 4])
    (stage,) = struct.unpack_from(">H", data, start + STAGE)
    offsets = [start + PLAYERS + PLAYER_BYTES * index for index in range(PORTS)]
    kinds = [(data[offset], data[offset + 1]) for offset in offsets]
    players = {port: character for port, (character, kind) in enumerate(kinds, 1) if kind < EMPTY_PORT}
    return version, stage, players
