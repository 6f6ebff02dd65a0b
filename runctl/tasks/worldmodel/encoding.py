"""The encoding: what one stored frame holds, byte by byte. Pure data: neither numpy nor torch.

A frame of a game is one record of `Layout.record_bytes` bytes (a multiple of four), little-endian:

    [float32 columns | uint16 columns | uint8 columns | padding]

Stored values are raw and exact: positions in game units, percent in percent, ages in frames. Scales and
embedding widths belong to the model that reads the dataset, so changing them needs no new encoding. Every
column but `stage` exists twice, as `p0_…` and `p1_…`; player 0 is the one on the lower port.

Columns of a player:

    float32  percent x y shield
             self_air_x self_y attack_x attack_y self_ground_x   velocities, game units per frame
             state_age            frames in the current action (only unless `state_age_as_embed`)
             hitlag               frames
             hitstun              frames left (`hitstun`); 0 while the in-hitstun state flag is off
             item_dx item_dy      nearest item's position minus the player's (`projectiles`); 0 without one
             stick_x stick_y cstick_x cstick_y   −1…1, as the game engine saw them
             shoulder             0…1, the harder pressed trigger
    ids      action jumps character l_cancel hurtbox ground last_attack
             state_age            whole frames (`state_age_as_embed`)
    uint8    stocks combo
             items                active items in the game, at most 255 (`projectiles`)
             facing (1: right) invulnerable (hurtbox is not vulnerable) on_ground
             button_a … button_r button_d_up   the eight buttons
             flags0 … flags4      40 state-flag bits, packed as Slippi packs them (`state_flags`)

An id is uint8 where its vocabulary has at most 256 entries, else uint16. An id beyond its vocabulary is stored as
the last id, and the audit counts how often that happened (`clipped`). The ground is the exception, because one
stage numbers its floors from 34: ids beyond the vocabulary are folded into it by their remainder, which keeps the
floors of every versus stage apart, and 65535 (none) is the last id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

from runctl.config.model import Encoding
from runctl.light import dataclass

Dtype = Literal["f32", "u16", "u8"]
BYTES: dict[str, int] = {"f32": 4, "u16": 2, "u8": 1}
FORMAT = 1

CORE = ("percent", "x", "y", "shield")
VELOCITIES = ("self_air_x", "self_y", "attack_x", "attack_y", "self_ground_x")
STICKS = ("stick_x", "stick_y", "cstick_x", "cstick_y")
BUTTONS = tuple(f"button_{name}" for name in ("a", "b", "x", "y", "z", "l", "r", "d_up"))
CONTROLLER = (*STICKS, "shoulder", *BUTTONS)
BINARIES = ("facing", "invulnerable", "on_ground")
IDS = ("action", "jumps", "character", "l_cancel", "hurtbox", "ground", "last_attack")
FLAG_BYTES = tuple(f"flags{index}" for index in range(5))
PLAYERS = ("p0", "p1")
VOCABS = (*(f"{name}_vocab" for name in IDS), "state_age_embed_vocab", "stage_vocab")


@dataclass(frozen=True)
class Column:
    """One stored value: `offset` in bytes from the start of a record; `vocab` for ids, else None."""

    name: str
    dtype: Dtype
    offset: int
    vocab: int | None = None

    @property
    def player(self) -> int | None:
        """0 or 1; None for a column of the whole frame."""
        return PLAYERS.index(self.name[:2]) if self.name[:3] in ("p0_", "p1_") else None

    @property
    def field(self) -> str:
        """The name without its player."""
        return self.name if self.player is None else self.name[3:]


@dataclass(frozen=True)
class Layout:
    """The columns of a record in stored order, and its size in bytes."""

    columns: tuple[Column, ...]
    record_bytes: int

    def names(self, dtype: str | None = None) -> tuple[str, ...]:
        """Column names in stored order; those of one dtype (`f32`, `u16`, `u8`) if it is given."""
        return tuple(column.name for column in self.columns if dtype in (None, column.dtype))

    def column(self, name: str) -> Column:
        """The column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def block(self, dtype: str) -> tuple[int, int]:
        """(first byte, number of columns) of a dtype's block: one dtype's columns lie side by side."""
        columns = [column for column in self.columns if column.dtype == dtype]
        return (columns[0].offset if columns else 0, len(columns))

    def to_manifest(self) -> dict[str, Any]:
        rows = [
            {"name": column.name, "dtype": column.dtype, "offset": column.offset, "vocab": column.vocab}
            for column in self.columns
        ]
        return {"record_bytes": self.record_bytes, "columns": rows}

    @staticmethod
    def from_manifest(data: dict[str, Any]) -> Layout:
        """The layout that a manifest describes; raises KeyError or TypeError where it is not one."""
        columns = (Column(row["name"], row["dtype"], row["offset"], row["vocab"]) for row in data["columns"])
        return Layout(tuple(columns), data["record_bytes"])


@lru_cache(maxsize=256)
def columns(encoding: Encoding) -> Layout:
    """The layout of a frame under this encoding."""
    placed: list[Column] = []
    wanted = [*_player_columns(encoding, "p0"), *_player_columns(encoding, "p1"), ("stage", encoding.stage_vocab)]
    offset = 0
    for dtype in ("f32", "u16", "u8"):
        for name, kind in wanted:
            vocab = kind if isinstance(kind, int) else None
            if (_id_dtype(kind) if isinstance(kind, int) else kind) == dtype:
                placed.append(Column(name, dtype, offset, vocab))
                offset += BYTES[dtype]
    return Layout(tuple(placed), -(-offset // 4) * 4)


def fields(encoding: Encoding) -> tuple[str, ...]:
    """The names of what is needed of each player, without their prefix: what a replay must be able to give."""
    return tuple(name[3:] for name, _ in _player_columns(encoding, "p0"))


def dataset_keys(encoding: Encoding) -> dict[str, bool | int | None]:
    """The settings that decide what a dataset stores: four flags and the vocabularies.

    The vocabulary of state ages is None where ages are stored as numbers: it then changes nothing.
    """
    keys: dict[str, bool | int | None] = {
        name: getattr(encoding, name) for name in ("state_age_as_embed", "projectiles", "state_flags", "hitstun")
    }
    keys |= {name: getattr(encoding, name) for name in VOCABS}
    if not encoding.state_age_as_embed:
        keys["state_age_embed_vocab"] = None
    return keys


@lru_cache(maxsize=256)
def dataset_digest(encoding: Encoding) -> str:
    """sha256 (hex) of `dataset_keys` and of the record format: equal digests mean interchangeable datasets."""
    text = json.dumps({"format": FORMAT, **dataset_keys(encoding)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def contents(manifest: Mapping[str, Any]) -> str:
    """What a dataset holds, wherever it lies: the digest of its games and of their encoding. Raises KeyError and
    TypeError for a damaged manifest."""
    games = [[game["identity"], game["sha256"], game["frames"]] for game in manifest["games"]]
    return hashlib.sha256(json.dumps([str(manifest["encoding_digest"]), games]).encode()).hexdigest()


def _player_columns(encoding: Encoding, player: str) -> Iterator[tuple[str, str | int]]:
    """(name, dtype) of a number, (name, vocabulary) of an id, in the order of the module's table."""
    floats = [*CORE, *VELOCITIES]
    floats += [] if encoding.state_age_as_embed else ["state_age"]
    floats += ["hitlag"]
    floats += ["hitstun"] if encoding.hitstun else []
    floats += ["item_dx", "item_dy"] if encoding.projectiles else []
    floats += [*STICKS, "shoulder"]
    for name in floats:
        yield f"{player}_{name}", "f32"
    for name in IDS:
        yield f"{player}_{name}", getattr(encoding, f"{name}_vocab")
    if encoding.state_age_as_embed:
        yield f"{player}_state_age", encoding.state_age_embed_vocab
    small = ["stocks", "combo"]
    small += ["items"] if encoding.projectiles else []
    small += [*BINARIES, *BUTTONS]
    small += FLAG_BYTES if encoding.state_flags else []
    for name in small:
        yield f"{player}_{name}", "u8"


def _id_dtype(vocab: int) -> str:
    return "u8" if vocab <= 256 else "u16"
