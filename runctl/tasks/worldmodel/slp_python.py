"""The fallback parser: py-slippi, pure Python, for what peppi refuses.

Its own event classes stop at Slippi 3.0 and know neither velocities nor hitlag. But it keeps the bytes of each
frame's events until they are asked for: they are decoded here, all rows at once, at the offsets of the format.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from runctl.tasks.worldmodel.games import Array
from runctl.tasks.worldmodel.slp_columns import Items, Recording

NAME = "py-slippi"
# field: (offset in the event's payload, big-endian type); a payload lacks the event's code
PRE = {
    "stick_x": (0x18, ">f4"), "stick_y": (0x1C, ">f4"), "cstick_x": (0x20, ">f4"), "cstick_y": (0x24, ">f4"),
    "shoulder": (0x28, ">f4"), "buttons": (0x2C, ">u4"),
}  # fmt: skip
POST = {
    "character": (0x06, "u1"), "action": (0x07, ">u2"), "x": (0x09, ">f4"), "y": (0x0D, ">f4"),
    "direction": (0x11, ">f4"), "percent": (0x15, ">f4"), "shield": (0x19, ">f4"), "last_attack": (0x1D, "u1"),
    "combo": (0x1E, "u1"), "stocks": (0x20, "u1"), "state_age": (0x21, ">f4"), "flags0": (0x25, "u1"),
    "flags1": (0x26, "u1"), "flags2": (0x27, "u1"), "flags3": (0x28, "u1"), "flags4": (0x29, "u1"),
    "misc": (0x2A, ">f4"), "airborne": (0x2E, "u1"), "ground": (0x2F, ">u2"), "jumps": (0x31, "u1"),
    "l_cancel": (0x32, "u1"), "hurtbox": (0x33, "u1"), "self_air_x": (0x34, ">f4"), "self_y": (0x38, ">f4"),
    "attack_x": (0x3C, ">f4"), "attack_y": (0x40, ">f4"), "self_ground_x": (0x44, ">f4"), "hitlag": (0x48, ">f4"),
}  # fmt: skip


class Refused(Exception):
    """py-slippi cannot read this replay."""


def read(data: bytes, ports: Sequence[int]) -> Recording:
    """The recording of the players at these ports; raises Refused for whatever py-slippi makes of the bytes."""
    from slippi.parse import ParseEvent, parse

    frames: list[Any] = []
    try:
        parse(io.BytesIO(data), {ParseEvent.FRAME: frames.append})
    except Exception as error:
        raise Refused(type(error.__context__ or error).__name__) from None
    if not frames:
        raise Refused("no frames")
    whole = np.array([all(_events(frame, port) for port in ports) for frame in frames])
    columns = {}
    for port in ports:
        events = [_events(frame, port) for frame in frames]
        columns[port] = {
            **_values([pair[0] if pair else b"" for pair in events], PRE),
            **_values([pair[1] if pair else b"" for pair in events], POST),
        }
    ids = np.array([frame.index for frame in frames], np.int32)
    return Recording(ids, whole, columns, _items(frames))


def _events(frame: Any, port: int) -> tuple[bytes, bytes] | None:
    """The payloads of the leader's pre-frame and post-frame events; None unless both are there."""
    data = frame.ports[port - 1] and frame.ports[port - 1].leader
    if not data or data._pre is None or data._post is None:
        return None
    return data._pre.getvalue(), data._post.getvalue()


def _values(payloads: list[bytes], places: dict[str, tuple[int, str]]) -> dict[str, Array]:
    """Columns (rows,) out of payloads of equal size; rows without a payload hold zeros."""
    size = max(map(len, payloads))
    names = [name for name, (offset, kind) in places.items() if offset + np.dtype(kind).itemsize <= size]
    layout = np.dtype(
        {
            "names": names,
            "formats": [places[name][1] for name in names],
            "offsets": [places[name][0] for name in names],
            "itemsize": size,
        }
    )
    rows = np.frombuffer(b"".join(payload.ljust(size, b"\0") for payload in payloads), layout)
    return {name: rows[name].astype(rows[name].dtype.newbyteorder("=")) for name in names}


def _items(frames: list[Any]) -> Items:
    found = [(row, item.position.x, item.position.y) for row, frame in enumerate(frames) for item in frame.items]
    table = np.array(found, np.float64).reshape(-1, 3)
    return Items(table[:, 0].astype(np.int64), table[:, 1].astype(np.float32), table[:, 2].astype(np.float32))
