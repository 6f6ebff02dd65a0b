"""A small writer of synthetic `.slp` replays, for tests only: every byte is made up here.

`Replay(...)` says what is in the file, `build(replay)` gives its bytes, `truth(replay, port)` the values that a reader
must find. Each value follows from the seed, the port and the frame, so that a mix-up of any of them shows.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, field
from pathlib import Path

FIRST = -123
ICE_CLIMBERS = 14  # their second climber is in the file, with other values
MAGIC = b"{U\x03raw[$U#l"
NAME, CODE = "Somebody", "SOME#123"


@dataclass(frozen=True)
class Replay:
    """What a file holds. `frames` counts from id −123. `rollbacks` maps a frame to the number of earlier frames that
    are written again before it, `items` a frame to its items' positions; `closed=False` leaves out the length, as a
    stream does; a `placement` of 17 makes peppi refuse the file, though all its frames are fine."""

    version: tuple[int, int, int] = (3, 14, 0)
    ports: tuple[int, ...] = (1, 2)
    characters: tuple[int, ...] = (2, 20, 9, 0)
    stage: int = 31
    frames: int = 400
    started: str | None = "2022-12-28T01:54:44Z"
    seed: int = 0
    rollbacks: dict[int, int] = field(default_factory=dict)
    items: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    ended: bool = True
    placement: int = 0
    closed: bool = True
    names: bool = True


def write(path: Path, replay: Replay, cut: int | None = None) -> Path:
    """Write the replay, gzipped where the name ends in `.gz`, only its first `cut` bytes where that is given."""
    data = build(replay)[:cut]
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def truth(replay: Replay, port: int, frame: int) -> dict[str, float]:
    """The values of a player on a frame, under the encoding's names where it has one."""
    base = frame + 1000 * port + 100_000 * replay.seed
    return {
        "action": (base * 7) % 380,
        "x": base * 0.25,
        "y": frame * 0.5 + port,
        "direction": 1.0 if (frame // 30) % 2 == 0 else -1.0,
        "stick_x": ((base % 161) - 80) / 80,
        "stick_y": (((base * 3) % 161) - 80) / 80,
        "cstick_x": (((base * 5) % 161) - 80) / 80,
        "cstick_y": (((base * 11) % 161) - 80) / 80,
        "shoulder": (base % 141) / 140,
        "buttons": (base * 37) & 0x1FFF,
        "percent": (base % 1000) / 4,
        "shield": 60 - (base % 240) / 8,
        "last_attack": base % 62,
        "combo": base % 12,
        "stocks": 4 - (frame - FIRST) * 3 // max(replay.frames, 1),
        "state_age": float((frame - FIRST) % 200),
        "flags": (base * 2_654_435_761) & 0xFFFF_FFFF_FF,
        "misc": (base % 64) / 2 + 1,
        "airborne": (frame // 20) % 2,
        "ground": 65_535 if (frame // 20) % 2 else base % 8,
        "jumps": base % 3,
        "l_cancel": base % 3,
        "hurtbox": base % 3,
        "self_air_x": base / 512,
        "self_y": -base / 512,
        "attack_x": base / 1024,
        "attack_y": -base / 1024,
        "self_ground_x": base / 2048,
        "hitlag": float(base % 14),
    }


def build(replay: Replay) -> bytes:
    """The bytes of the `.slp` file."""
    sizes = payload_sizes(replay.version)
    events = [bytes([0x35, 1 + 3 * len(sizes)]) + b"".join(struct.pack(">BH", *row) for row in sizes.items())]
    events.append(_game_start(replay, sizes[0x36]))
    for frame in range(FIRST, FIRST + replay.frames):
        depth = replay.rollbacks.get(frame, 0)
        for again in range(frame - depth, frame):
            events += _frame(replay, again, sizes, wrong=False)
        events += _frame(
            replay, frame, sizes, wrong=any(frame in range(at - by, at) for at, by in replay.rollbacks.items())
        )
    if replay.ended:
        events.append(_sized(bytes([0x39, 2, 0xFF, replay.placement, 1, 0xFF, 0xFF]), sizes[0x39]))
    raw = b"".join(events)
    return MAGIC + struct.pack(">i", len(raw) if replay.closed else 0) + raw + _metadata(replay)


def payload_sizes(version: tuple[int, int, int]) -> dict[int, int]:
    """Bytes behind each event code: later versions append."""

    def size(*steps: tuple[tuple[int, int], int]) -> int:
        return [amount for since, amount in steps if version[:2] >= since][-1]

    sizes = {
        0x36: size(((0, 1), 320), ((1, 0), 352), ((1, 3), 416), ((1, 5), 417), ((2, 0), 418), ((3, 7), 420),
                   ((3, 9), 584), ((3, 11), 700), ((3, 12), 701), ((3, 14), 760)),
        0x37: size(((0, 1), 58), ((1, 2), 59), ((1, 4), 63), ((3, 15), 64)),
        0x38: size(((0, 1), 33), ((0, 2), 37), ((2, 0), 51), ((2, 1), 52), ((3, 5), 72), ((3, 8), 76), ((3, 11), 80)),
        0x39: size(((0, 1), 1), ((2, 0), 2), ((3, 13), 6)),
    }  # fmt: skip
    if version >= (2, 2, 0):
        sizes[0x3A] = size(((2, 2), 8), ((3, 10), 12))
    if version >= (3, 0, 0):
        sizes[0x3B] = size(((3, 0), 37), ((3, 2), 41), ((3, 6), 42))
        sizes[0x3C] = size(((3, 0), 4), ((3, 7), 8))
    return sizes


def _game_start(replay: Replay, size: int) -> bytes:
    event = bytearray(1 + size)
    event[0] = 0x36
    event[1:4] = bytes(replay.version)
    struct.pack_into(">H", event, 0x13, replay.stage)
    for index in range(4):
        there = index + 1 in replay.ports
        who = replay.characters[replay.ports.index(index + 1)] if there else 0
        struct.pack_into(">BBB", event, 0x65 + 0x24 * index, who, 0 if there else 3, 4 if there else 0)
        if replay.names and there:
            _text(event, 0x161 + 16 * index, "ＴＡＧ".encode("shift-jis"))
            _text(event, 0x1A5 + 31 * index, NAME.encode())
            _text(event, 0x221 + 10 * index, CODE.replace("#", "＃").encode("shift-jis"))
    return bytes(event)


def _text(event: bytearray, offset: int, text: bytes) -> None:
    if offset + len(text) <= len(event):
        event[offset : offset + len(text)] = text


def _frame(replay: Replay, frame: int, sizes: dict[int, int], *, wrong: bool) -> list[bytes]:
    """All events of one frame; `wrong` is the guess that a rollback takes back."""
    if frame in replay.missing:
        return []
    events = []
    if 0x3A in sizes:
        events.append(_sized(struct.pack(">BiI", 0x3A, frame, 7), sizes[0x3A]))
    for port in replay.ports:
        who = replay.characters[replay.ports.index(port)]
        for follower in (False, True)[: 1 + (who == ICE_CLIMBERS)]:
            values = truth(replay, port, frame)
            if wrong or follower:
                values = {**values, "x": -5000.0, "action": 1, "percent": 999.0}
            head = struct.pack(">iB?", frame, port - 1, follower)
            events.append(_sized(b"\x37" + head + _pre(values), sizes[0x37]))
            events.append(_sized(b"\x38" + head + _post(values, who), sizes[0x38]))
    if 0x3B in sizes:
        for x, y in replay.items.get(frame, []):
            item = struct.pack(">BiHBfffffHfI", 0x3B, frame, 54, 0, 1.0, 0.0, 0.0, x, y, 0, 60.0, 1)
            events.append(_sized(item, sizes[0x3B]))
        events.append(_sized(struct.pack(">Bii", 0x3C, frame, frame), sizes[0x3C]))
    return events


def _pre(v: dict[str, float]) -> bytes:
    sticks = (v["stick_x"], v["stick_y"], v["cstick_x"], v["cstick_y"], v["shoulder"])
    head = struct.pack(">IHfff", 7, int(v["action"]), v["x"], v["y"], v["direction"])
    buttons = struct.pack(">IHff", int(v["buttons"]), int(v["buttons"]) & 0xFFFF, v["shoulder"], 0.0)
    return head + struct.pack(">fffff", *sticks) + buttons + struct.pack(">bf", 0, v["percent"])


def _post(v: dict[str, float], character: int) -> bytes:
    body = struct.pack(
        ">BHfffff", character, int(v["action"]), v["x"], v["y"], v["direction"], v["percent"], v["shield"]
    )
    counts = struct.pack(">BBBB", int(v["last_attack"]), int(v["combo"]), 0, int(v["stocks"]))
    flags = struct.pack("<Q", int(v["flags"]))[:5]
    ground = struct.pack(">BHBBB", *(int(v[name]) for name in ("airborne", "ground", "jumps", "l_cancel", "hurtbox")))
    speeds = struct.pack(
        ">ffffff", *(v[n] for n in ("self_air_x", "self_y", "attack_x", "attack_y", "self_ground_x", "hitlag"))
    )
    return body + counts + struct.pack(">f", v["state_age"]) + flags + struct.pack(">f", v["misc"]) + ground + speeds


def _metadata(replay: Replay) -> bytes:
    parts = [b"U\x08metadata{"]
    if replay.started is not None:
        parts.append(b"U\x07startAtSU" + bytes([len(replay.started)]) + replay.started.encode())
    parts.append(b"U\x09lastFramel" + struct.pack(">i", FIRST + replay.frames - 1))
    if replay.names:
        parts.append(b"U\x07players{U\x010{U\x05names{U\x07netplaySU" + bytes([len(NAME)]) + NAME.encode() + b"}}}")
    return b"".join([*parts, b"U\x08playedOnSU\x07dolphin}}"])


def _sized(event: bytes, size: int) -> bytes:
    return event[: 1 + size].ljust(1 + size, b"\0")
