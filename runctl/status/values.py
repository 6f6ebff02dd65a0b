"""What a run's records say, where they may be torn, foreign or hostile: a plain value, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from runctl.fields import first_of, text, whole
from runctl.status.facts import Records
from runctl.supervisor.verdict import ENDED

_MOST = 2**53  # above it a JSON number may not be what was meant


def event(records: Records, name: str) -> Mapping[str, Any] | None:
    """The last event of that name in the newest attempt."""
    return next((row for row in reversed(records.events) if row.get("event") == name), None)


def has_ended(end: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a record names a state in which a run ends."""
    return isinstance(end, Mapping) and isinstance(end.get("state"), str) and end["state"] in ENDED


def count(data: Any, key: str) -> int | None:
    """A whole number that can be counted to."""
    found = whole(data, key)
    return found if found is not None and 0 <= found <= _MOST else None


def reached(resumed: Any, start: Any) -> int | None:
    """The step from which an attempt goes on: as its trainer found it, else as its launcher meant it."""
    return first_of([count(resumed, "step"), count(start, "from_step")])


def task_of(data: Mapping[str, Any]) -> str | None:
    """The task in the config of a run.json."""
    return text(data.get("config"), "task")
