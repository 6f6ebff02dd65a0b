"""The baselines that need no training, and the one that needs a count: what follows an action most often.

*No motion* repeats the frame, *last delta* repeats the last movement; `metrics` computes both on the spot.
*Lookup* answers with the most common next action after (action, character, state age), counted once over the
training games; among equally common ones the smallest id wins, and a triple never seen keeps its action. Ages at
or beyond their vocabulary count as its last one, whether they are stored as ids or as numbers. Of a dataset with more
than MOST_FRAMES of training, it is counted over about as many, in games that are evenly spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runctl.config.model import Encoding
from runctl.tasks.worldmodel.dataset import Unmapped
from runctl.tasks.worldmodel.encoding import BYTES, PLAYERS, Layout
from runctl.tasks.worldmodel.games import Array

CHUNK = 1_000_000  # frames counted at a time
MOST_FRAMES = 20_000_000
_DTYPES = {"f32": "<f4", "u16": "<u2", "u8": "u1"}
_ACTION_BITS = 16  # an action is stored in two bytes


@dataclass(frozen=True)
class Lookup:
    """Sorted `keys` (int64) and the action that follows each. `key` makes a key of numbers, arrays or tensors."""

    keys: Array
    actions: Array
    characters: int
    ages: int

    def key(self, action: Any, character: Any, age: Any) -> Any:
        """(action, character, age) as one number; `age` is whole and below `ages`."""
        return (action * self.characters + character) * self.ages + age


def empty(encoding: Encoding) -> Lookup:
    """A table that has seen nothing."""
    none: Array = np.empty(0, np.int64)
    return Lookup(none, none, encoding.character_vocab, encoding.state_age_embed_vocab)


def fit(records: Array | Unmapped, games: Sequence[tuple[int, int]], layout: Layout, encoding: Encoding) -> Lookup:
    """Count over `games`, (first record, frames) each, of `records` (N, R) uint8. Memory stays bounded by the number
    of different transitions and one chunk of frames, whatever the number of games."""
    table = empty(encoding)
    seen, counts = table.keys, table.keys  # transitions: the key, then the bits of the next action
    waiting: list[Array] = []
    for first, last in _spans(some(games)):
        part = records[first:last]
        for player in PLAYERS:
            action, character, age = (_column(part, layout, f"{player}_{name}") for name in _OF_A_KEY)
            age = np.clip(np.nan_to_num(age, nan=0.0), 0, table.ages - 1).astype(np.int64)
            waiting.append((table.key(action, character, age)[:-1] << _ACTION_BITS) | action[1:])
        if sum(map(len, waiting)) >= CHUNK:
            seen, counts = _merge(seen, counts, waiting)
            waiting = []
    seen, counts = _merge(seen, counts, waiting)
    keys, actions = seen >> _ACTION_BITS, seen & ((1 << _ACTION_BITS) - 1)
    # The most common next action of each key comes first, and of equally common ones the smallest.
    order = np.lexsort((actions, -counts, keys))
    found, where = np.unique(keys[order], return_index=True)
    return Lookup(found, actions[order[where]], table.characters, table.ages)


_OF_A_KEY = ("action", "character", "state_age")


def some(games: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """All games, or of too many frames as many evenly spread games as have about MOST_FRAMES."""
    return games[:: max(1, round(sum(frames for _, frames in games) / MOST_FRAMES))]


def _spans(games: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Ranges of records inside one game, each at most CHUNK transitions long and sharing one frame with the next."""
    for start, frames in games:
        for first in range(start, start + frames - 1, CHUNK):
            yield first, min(first + CHUNK + 1, start + frames)


def _column(records: Array, layout: Layout, name: str) -> Array:
    """One column of records (N, R): ids as int64, numbers as float32."""
    column = layout.column(name)
    raw = records[:, column.offset : column.offset + BYTES[column.dtype]]
    values: Array = np.ascontiguousarray(raw).view(_DTYPES[column.dtype])[:, 0]
    return values if column.dtype == "f32" else values.astype(np.int64)


def _merge(seen: Array, counts: Array, more: Sequence[Array]) -> tuple[Array, Array]:
    """Each different transition once, sorted, with its counts summed."""
    if not more:
        return seen, counts
    new, times = np.unique(np.concatenate(more), return_counts=True)
    both, where = np.unique(np.concatenate([seen, new]), return_inverse=True)
    total: Array = np.zeros(len(both), np.int64)
    np.add.at(total, where, np.concatenate([counts, times]))
    return both, total
