"""Records with random content for tests of the world model: every column within its range."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from runctl.config.model import Encoding
from runctl.tasks.worldmodel.encoding import BINARIES, BUTTONS, BYTES, Layout, columns

ALL = {"state_age_as_embed": True, "projectiles": True, "state_flags": True, "hitstun": True}
_DTYPES = {"f32": "<f4", "u16": "<u2", "u8": "u1"}


def random_columns(encoding: Encoding, shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Values by column name, each of this shape."""
    rng = np.random.default_rng(seed)
    values = {}
    for column in columns(encoding).columns:
        if column.dtype == "f32":
            values[column.name] = rng.normal(0, 20, shape).astype(np.float32)
        elif column.vocab is not None:
            values[column.name] = rng.integers(0, column.vocab, shape)
        else:
            top = 2 if column.field in (*BINARIES, *BUTTONS) else 256
            values[column.name] = rng.integers(0, top, shape)
    return values


def pack(layout: Layout, values: dict[str, np.ndarray]) -> Tensor:
    """(…, R) uint8 from values by column name."""
    shape = next(iter(values.values())).shape
    records = np.zeros((*shape, layout.record_bytes), np.uint8)
    for column in layout.columns:
        raw = np.ascontiguousarray(values[column.name], _DTYPES[column.dtype])[..., None].view(np.uint8)
        records[..., column.offset : column.offset + BYTES[column.dtype]] = raw
    return torch.from_numpy(records)


def random_records(encoding: Encoding, *shape: int, seed: int = 0) -> Tensor:
    """(…, R) uint8 of random values."""
    return pack(columns(encoding), random_columns(encoding, shape, seed))
