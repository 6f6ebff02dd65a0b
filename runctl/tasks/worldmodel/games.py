"""A game in its parsed form: the same for a real replay and for a simulated game.

A game holds what the two players did, frame by frame, and what identifies it. Nothing in it names a person.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Player:
    """One player: the real port (1…4), the character chosen at the start, and columns of shape (N,) by field name.

    Field names are those of `encoding` without the prefix. A field that the replay's version lacks is absent.
    `state_age` is always given as float32; the encoding makes an id of it where it must be one.
    """

    port: int
    character: int
    columns: dict[str, Array]


@dataclass(frozen=True)
class Game:
    """Two players on one stage for N consecutive frames; `started` is ISO 8601, or None if the replay has no time."""

    source: str
    stage: int
    players: tuple[Player, Player]
    started: str | None
    version: str
    simulated: bool = False

    @property
    def frames(self) -> int:
        return len(self.players[0].columns["x"])


def content(game: Game) -> str:
    """sha256 (hex) of what happened: both players' positions, damage and actions, of every frame."""
    hasher = hashlib.sha256(f"{game.stage}:{game.frames}".encode())
    for player in game.players:
        hasher.update(f":{player.port}:{player.character}".encode())
        for name, dtype in (("x", "<f4"), ("y", "<f4"), ("percent", "<f4"), ("action", "<u2")):
            hasher.update(np.ascontiguousarray(player.columns[name], dtype).tobytes())
    return hasher.hexdigest()


def identity(game: Game) -> str:
    """sha256 (hex) of what the game is: when it started, who (ports, characters), where, how many frames.

    The bytes of the file play no part: a copy with another name, other metadata or another compression is the
    same game. A replay without a start time is identified by its content instead.
    """
    players = [[player.port, player.character] for player in game.players]
    what = [game.started or content(game), players, game.stage, game.frames]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


class Skip(Exception):
    """A source that cannot be encoded: `reason` is a word of a small closed set, `detail` is for a person."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail
