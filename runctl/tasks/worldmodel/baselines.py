"""The baselines that need no training, and the one that needs a count: what follows an action most often.

*No motion* repeats the frame, *last delta* repeats the last movement; `metrics` computes both on the spot.
*Lookup* answers with the most common next action after (action, character, state age), counted once over the
training games; among equally common ones the smallest id wins, and a triple never seen keeps its action. Ages at
or beyond their vocabulary count as its last one, whether they are stored as ids or as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from runctl.config.model import Encoding
from runctl.tasks.worldmodel.encoding import BYTES, PLAYERS, Layout
from runctl.tasks.worldmodel.games import Array

CHUNK = 1_000_000  # frames counted at a time
_DTYPES = {"f32": "<f4", "u16": "<u2", "u8": "u1"}


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


def fit(records: Array, games: Iterable[tuple[int, int]], layout: Layout, encoding: Encoding) -> Lookup:
    """Count over `games`, (first record, frames) each, of `records` (N, R) uint8. Memory stays bounded by the number
    of different transitions and one chunk of frames, whatever the number of games."""
    empty: Array = np.empty(0, np.int64)
    table = Lookup(empty, empty, encoding.character_vocab, encoding.state_age_embed_vocab)
    seen: Array = np.empty((0, 2), np.int64)
    counts = empty
    for first, last in _spans(games):
        part = np.ascontiguousarray(records[first:last])
        for player in PLAYERS:
            action, character, age = (_column(part, layout, f"{player}_{name}") for name in _OF_A_KEY)
            age = np.clip(np.nan_to_num(age, nan=0.0), 0, table.ages - 1).astype(np.int64)
            pairs = np.stack([table.key(action, character, age)[:-1], action[1:]], 1)
            once: Array = np.ones(len(pairs), np.int64)
            seen, counts = _merge(np.concatenate([seen, pairs]), np.concatenate([counts, once]))
    # The most common next action of each key comes first, and of equally common ones the smallest.
    order = np.lexsort((seen[:, 1], -counts, seen[:, 0]))
    keys, where = np.unique(seen[order, 0], return_index=True)
    return Lookup(keys, seen[order[where], 1], table.characters, table.ages)


_OF_A_KEY = ("action", "character", "state_age")


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


def _merge(pairs: Array, counts: Array) -> tuple[Array, Array]:
    """Each different (key, next action) once, with its counts summed."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, counts = pairs[order], counts[order]
    new: Array = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[new], np.add.reduceat(counts, np.flatnonzero(new)) if len(pairs) else counts
