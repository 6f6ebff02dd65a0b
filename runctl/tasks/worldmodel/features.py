"""From stored records to what the model reads: floats in scaled units and ids.

Records hold raw values (`encoding`); here they get their scales, the packed state flags become bits, and ids of
one or two bytes become int32. It runs in every step, on the device where the records are, without a loop over
samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runctl.config.model import Encoding
from runctl.tasks.worldmodel.encoding import (
    BINARIES,
    BUTTONS,
    CONTROLLER,
    CORE,
    FLAG_BYTES,
    IDS,
    PLAYERS,
    VELOCITIES,
    Layout,
)

ITEMS_SCALE = 0.1  # for the number of active items; no config key sets it


class Features(nn.Module):
    """records (…, R) uint8 → floats (…, F) float32 and ids (…, I) int32.

    `float_names` and `id_names` name their columns. Floats lie as stored: the float32 block, the small numbers, the
    flag bits (`p0_flag00` … `p1_flag39`, the lowest bit of a byte first). Ids lie in pairs, `p0_action p1_action
    p0_jumps …`, and the stage last. Holds no weights, and no state that a checkpoint would need.
    """

    def __init__(self, layout: Layout, encoding: Encoding) -> None:
        super().__init__()
        self.kinds = (*IDS, "state_age") if encoding.state_age_as_embed else IDS
        self.id_names = (*(f"{player}_{kind}" for kind in self.kinds for player in PLAYERS), "stage")
        wide = layout.names("u16")
        narrow = [name for name in self.id_names if name not in wide]
        small = [name for name in layout.names("u8") if name not in self.id_names and name[3:] not in FLAG_BYTES]
        flags = [f"{player}_{field}" for player in PLAYERS for field in FLAG_BYTES if encoding.state_flags]
        bits = [f"{player}_flag{bit:02}" for player in PLAYERS for bit in range(40) if encoding.state_flags]
        self.float_names = (*layout.names("f32"), *small, *bits)
        self._f32, self._u16 = _bytes(layout, "f32"), _bytes(layout, "u16")

        def buffer(name: str, values: Tensor) -> None:
            self.register_buffer(name, values, persistent=False)

        order = [[*wide, *narrow].index(name) for name in self.id_names]
        scales = [_scale(name[3:], encoding) for name in (*layout.names("f32"), *small)]
        buffer("_scales", torch.tensor(scales))
        buffer("_bytes", torch.tensor([layout.column(name).offset for name in (*small, *narrow, *flags)]))
        buffer("_order", torch.tensor(order))
        buffer("_bits", torch.arange(8, dtype=torch.uint8))
        buffer("moving", torch.tensor(self.columns((*CORE, *VELOCITIES))))  # what scheduled sampling disturbs
        self._counts = [len(small), len(narrow), len(flags)]

    def forward(self, records: Tensor) -> tuple[Tensor, Tensor]:
        numbers = records[..., self._f32].view(torch.float32)
        wide = records[..., self._u16].view(torch.int16).int() & 0xFFFF
        small, narrow, flags = records.index_select(-1, self._bytes).split(self._counts, -1)
        floats = torch.cat([numbers, small.float()], -1) * self._scales
        if flags.shape[-1]:
            bits = (flags[..., None] >> self._bits) & 1
            floats = torch.cat([floats, bits.flatten(-2).float()], -1)
        return floats, torch.cat([wide, narrow.int()], -1).index_select(-1, self._order)

    def columns(self, fields: tuple[str, ...]) -> list[int]:
        """Places among the floats of these fields: all of player 0, then all of player 1."""
        return [self.float_names.index(f"{player}_{field}") for player in PLAYERS for field in fields]

    def id_columns(self, kind: str) -> slice:
        """Where the ids of this kind lie, player 0 and player 1."""
        first = self.id_names.index(f"p0_{kind}")
        return slice(first, first + 2)


def flag_fields(encoding: Encoding) -> tuple[str, ...]:
    """The names of a player's 40 flag bits, or none."""
    return tuple(f"flag{bit:02}" for bit in range(40)) if encoding.state_flags else ()


def _bytes(layout: Layout, dtype: str) -> slice:
    first, count = layout.block(dtype)
    return slice(first, first + count * {"f32": 4, "u16": 2}[dtype])


def _scale(field: str, encoding: Encoding) -> float:
    """What a stored value is multiplied with."""
    if field in ("x", "y", "item_dx", "item_dy"):
        return encoding.xy_scale
    if field in CORE:
        return encoding.percent_scale if field == "percent" else encoding.shield_scale
    if field in VELOCITIES:
        return encoding.velocity_scale
    if field == "items":
        return ITEMS_SCALE
    if field in BINARIES or field in BUTTONS or field in CONTROLLER:
        return 1.0
    return float(getattr(encoding, f"{field}_scale"))  # hitlag, stocks, combo, hitstun, state_age
