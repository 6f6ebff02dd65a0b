"""Moments as options take them: so long ago, a time of day, a date."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from runctl.errors import UsageError
from runctl.units import parse_duration


def moment(text: str, option: str, now: float | None = None) -> float:
    """Unix seconds of `10m` (so long ago), `14:30`, `14:30:05` (the last time it was so late), `2026-11-21`,
    `2026-11-21 14:30` (local), `2026-11-21T14:30Z`; raises UsageError that names the option."""
    now = time.time() if now is None else now
    word = text.strip()
    try:
        if word[:1].isdigit() and ":" not in word and "-" not in word:
            return now - parse_duration(word)
        if "-" in word:
            return datetime.fromisoformat(word).timestamp()
        clock = datetime.strptime(word, "%H:%M:%S" if word.count(":") == 2 else "%H:%M")
        today = datetime.fromtimestamp(now)
        then = today.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
        return (then if then <= today else then - timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError):
        known = "10m (so long ago), 14:30, 14:30:05, 2026-11-21 or '2026-11-21 14:30'"
        raise UsageError(f"{option}: {text!r} is no moment", hint=f"write it as {known}") from None
