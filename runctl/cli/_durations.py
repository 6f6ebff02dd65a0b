"""Durations as options take them."""

from __future__ import annotations

from runctl.errors import UsageError
from runctl.units import parse_duration


def seconds(text: str, option: str) -> float:
    """Seconds in `90s`, `10m`; raises UsageError that names the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
