"""The names of the validation's metrics, for those who must know them without torch.

val/loss, val/loss/<part>        the training loss on held-out windows
val/action_acc                   share of (window, player) whose next action is the predicted one
val/change_acc                   the same where the action changes; NaN where it never does
val/pos_mae                      mean |error| of the next x and y of both players, in game units
val/frames, val/changes          what they stand on: windows, and (window, player) with a changed action
baseline/no_motion/…             action_acc and pos_mae; its change_acc is 0 by definition
baseline/last_delta/pos_mae      the last movement repeats
baseline/lookup/…                action_acc and change_acc
"""

from __future__ import annotations

from runctl.config.model import LossWeights

COUNTS = ("windows", "changes")
SHARES = (
    "action",
    "change",
    "position",
    "no_motion/action",
    "no_motion/position",
    "last_delta/position",
    "lookup/action",
    "lookup/change",
)
PARTS = tuple(LossWeights.model_fields)
_KINDS = {"action": "action_acc", "change": "change_acc", "position": "pos_mae"}


def name(share: str) -> str:
    """The metric of one of SHARES: `lookup/action` → `baseline/lookup/action_acc`."""
    source, _, kind = share.rpartition("/")
    return f"baseline/{source}/{_KINDS[kind]}" if source else f"val/{_KINDS[kind]}"


NAMES = (
    "val/loss",
    *map(name, SHARES),
    "val/frames",
    "val/changes",
    *(f"val/loss/{part}" for part in PARTS),
)
