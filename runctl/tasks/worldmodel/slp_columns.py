"""A parsed recording, whatever parser read it, and its way to the columns of a player."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runctl.tasks.worldmodel.encoding import FLAG_BYTES
from runctl.tasks.worldmodel.games import Array

IN_HITSTUN = 0x02  # of the fourth state-flag byte
BUTTON_BITS = {
    "button_a": 0x0100,
    "button_b": 0x0200,
    "button_x": 0x0400,
    "button_y": 0x0800,
    "button_z": 0x0010,
    "button_l": 0x0040,
    "button_r": 0x0020,
    "button_d_up": 0x0008,
}
FLOATS = (
    "percent", "x", "y", "shield", "self_air_x", "self_y", "attack_x", "attack_y", "self_ground_x", "state_age",
    "hitlag", "stick_x", "stick_y", "cstick_x", "cstick_y", "shoulder",
)  # fmt: skip
WHOLE = ("action", "jumps", "character", "l_cancel", "hurtbox", "ground", "last_attack", "stocks", "combo")


@dataclass(frozen=True)
class Items:
    """All active items of all rows, (I,) each: the row they belong to and where they are."""

    row: Array
    x: Array
    y: Array


@dataclass(frozen=True)
class Recording:
    """The rows of a recording as they stand in the file, rollbacks included.

    `ids` (rows,) are frame ids; `whole` (rows,) says where both players have data; `ports` gives per port the raw
    columns (rows,) under the names of FLOATS and WHOLE and as `direction`, `airborne`, `buttons` (as the game engine
    saw them, so that computer players have them too), `misc` (hitstun's place) and `flags0` … `flags4`. What the
    recording's version lacks is absent.
    """

    ids: Array
    whole: Array
    ports: dict[int, dict[str, Array]]
    items: Items | None


def player_columns(recording: Recording, rows: Array) -> dict[int, dict[str, Array]]:
    """Per port the columns that an encoding may ask for, of the given rows, (N,) each."""
    columns = {port: _columns(raw, rows) for port, raw in recording.ports.items()}
    if recording.items is not None:
        for mine in columns.values():
            mine |= _nearest(recording.items, rows, len(recording.ids), mine["x"], mine["y"])
    return columns


def _columns(raw: dict[str, Array], rows: Array) -> dict[str, Array]:
    mine = {name: raw[name][rows] for name in (*FLOATS, *WHOLE, *FLAG_BYTES) if name in raw}
    mine["facing"] = (raw["direction"][rows] > 0).astype(np.uint8)
    pressed = raw["buttons"][rows]
    mine |= {name: ((pressed & bit) > 0).astype(np.uint8) for name, bit in BUTTON_BITS.items()}
    if "hurtbox" in mine:
        mine["invulnerable"] = (mine["hurtbox"] != 0).astype(np.uint8)
    if "airborne" in raw:
        mine["on_ground"] = (raw["airborne"][rows] == 0).astype(np.uint8)
    if "misc" in raw and "flags3" in mine:
        stunned = (mine["flags3"] & IN_HITSTUN) > 0
        mine["hitstun"] = np.where(stunned, raw["misc"][rows], np.float32(0))
    return mine


def _nearest(items: Items, rows: Array, raw_rows: int, x: Array, y: Array) -> dict[str, Array]:
    """Nearest item's position minus the player's, and the number of items, per kept row; 0 without items."""
    place = np.full(raw_rows, -1)
    place[rows] = np.arange(len(rows))
    frame = place[items.row]
    here = frame >= 0
    frame, item_x, item_y = frame[here], items.x[here], items.y[here]
    dx, dy = item_x - x[frame], item_y - y[frame]
    order = np.lexsort((dx.astype(np.float64) ** 2 + dy.astype(np.float64) ** 2, frame))
    frames, first = np.unique(frame[order], return_index=True)
    chosen = order[first]
    found: dict[str, Array] = {"item_dx": np.zeros(len(rows), np.float32), "item_dy": np.zeros(len(rows), np.float32)}
    found["item_dx"][frames], found["item_dy"][frames] = dx[chosen], dy[chosen]
    found["items"] = np.minimum(np.bincount(frame, minlength=len(rows)), 255).astype(np.uint8)
    return found
