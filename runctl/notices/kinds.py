"""Which news an event of a run is, if any: what the supervisor asks at each row, so it is light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl.fields import text

_ENDS = {"succeeded": "finished", "failed": "failed", "killed": "killed", "stopped": "stopped"}
ROW_LETTERS = 2_000  # of a reason that is passed on


def of(row: Mapping[str, Any], *, goes_on: bool = False) -> str | None:
    """The kind of news (`targets.KINDS`). An attempt after which the run goes on by itself is told by its restart; a
    guard that only notes tells nobody."""
    event = row.get("event")
    if event == "first_step":
        return "started"
    if event == "restart":
        return "restarted"
    if event == "disk_filling":
        return "disk"
    if event == "guard_tripped":
        if (text(row, "guard") or "").startswith("budget."):
            return "budget"
        return None if row.get("do") == "note" else "guard"
    if event == "attempt_ended" and not goes_on:
        return _ENDS.get(text(row, "state") or "")
    return None


def short(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is handed to the sender: small, whatever a program has written."""
    return {
        key: value[:ROW_LETTERS] if isinstance(value, str) else value
        for key, value in row.items()
        if isinstance(value, str | int | float | bool | None)
    }
