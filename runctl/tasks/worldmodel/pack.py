"""Game → records: the stored bytes of every frame, and the audit of its columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from runctl.config.model import Encoding
from runctl.tasks.worldmodel import audit
from runctl.tasks.worldmodel.encoding import FLAG_BYTES, STICKS, VELOCITIES, Layout, fields
from runctl.tasks.worldmodel.games import Array, Game, Skip

FORMATS = {"f32": "<f4", "u16": "<u2", "u8": "u1"}
GROUPS = {
    **dict.fromkeys(VELOCITIES, "velocities"),
    **dict.fromkeys(FLAG_BYTES, "state flags"),
    **dict.fromkeys(("item_dx", "item_dy", "items"), "items"),
    **dict.fromkeys((*STICKS, "shoulder"), "controller"),
    "invulnerable": "hurtbox",
    "on_ground": "ground",
    "l_cancel": "l-cancel",
    "state_age": "state age",
    "last_attack": "last attack",
}


def dtype(layout: Layout) -> np.dtype[Any]:
    """The layout as a numpy structured type, of `record_bytes` bytes."""
    return np.dtype(
        {
            "names": [column.name for column in layout.columns],
            "formats": [FORMATS[column.dtype] for column in layout.columns],
            "offsets": [column.offset for column in layout.columns],
            "itemsize": layout.record_bytes,
        }
    )


def pack(game: Game, encoding: Encoding, layout: Layout) -> tuple[Array, audit.Audit]:
    """(records uint8 (N, R), audit of this game); raises Skip naming the fields that the game lacks."""
    missing = lacking(game.players[0].columns.keys() & game.players[1].columns.keys(), encoding)
    if missing:
        raise too_old(missing, game.version)
    records: Array = np.zeros(game.frames, dtype(layout))
    seen = audit.Audit()
    for column in layout.columns:
        if column.player is None:
            values: Array = np.full(game.frames, game.stage, np.uint32)
        else:
            values = game.players[column.player].columns[column.field]
        records[column.name], facts = _stored(values, column.vocab, fold=column.field == "ground")
        seen.add(column.name, facts)
    return records.view(np.uint8).reshape(game.frames, layout.record_bytes), seen


def too_old(missing: list[str], version: str) -> Skip:
    """The skip of a recording without these fields; the reason names at most two of them, the detail all."""
    some = ", ".join(missing[:2]) + ", …" * (len(missing) > 2)
    return Skip(f"too old: lacks {some}", f"Slippi {version} lacks {', '.join(missing)}")


def lacking(present: Iterable[str], encoding: Encoding) -> list[str]:
    """What the encoding needs and `present` (field names) has not, in words, each once."""
    names = set(present)
    return list(dict.fromkeys(GROUPS.get(name, name) for name in fields(encoding) if name not in names))


def needs(encoding: Encoding) -> list[str]:
    """All that the encoding needs of a game, in the words of `lacking`."""
    return lacking((), encoding)


def _stored(values: Array, vocab: int | None, *, fold: bool = False) -> tuple[Array, audit.ColumnAudit]:
    """Values as they are stored, (N,), with their audit. Ids are whole, not negative, and below the vocabulary.

    Ids beyond it become the last id; with `fold` their remainder by it, so that they stay apart from each other
    (but for 65535, "none", which is the last id).
    """
    if vocab is None:
        return values, audit.of(values)
    nan = 0
    if values.dtype.kind == "f":  # state ages: -1 and fractions occur
        nan = int(np.count_nonzero(np.isnan(values)))
        values = np.floor(np.clip(np.nan_to_num(values, nan=0.0), 0, 65_535)).astype(np.uint32)
    last = min(vocab, 65_536) - 1
    beyond = values > last
    clipped = int(np.count_nonzero(beyond))
    if clipped:
        folded: Array | int = values % last if fold and last else last
        values = np.where(beyond, np.where(values == 65_535, last, folded), values)
    return values, audit.of(values, clipped=clipped, nan=nan)
