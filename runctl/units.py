"""Sizes, durations, money and counts: parse what people write, format what people read.

Memory is binary and says so (KiB, MiB, GiB); a plain `GB` is refused on input, because half of the field
means 10^9 by it and the other half 2^30.
"""

from __future__ import annotations

import math

from runctl.light import pattern

SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600, "d": 86400, "day": 86400}
BYTES = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_PART = pattern(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")


def parse_duration(text: str | float) -> float:
    """Seconds in `90`, `"90s"`, `"5m"`, `"1h30m"`, `"2 days"`; raises ValueError saying what is accepted."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"{text!r} is not a duration; write it as 30s, 5m, 24h or 1h30m")
    if isinstance(text, int | float):
        total = float(text)
    else:
        total, rest = 0.0, text.strip()
        while rest:
            match = _PART.match(rest)
            unit = match and (match[2].lower() if match[2].lower() in SECONDS else match[2].lower().rstrip("s"))
            if not match or unit not in SECONDS:
                raise ValueError(f"{text!r} is not a duration; write it as 30s, 5m, 24h or 1h30m")
            total += float(match[1]) * SECONDS[unit]
            rest = rest[match.end() :]
        if not text.strip():
            raise ValueError("an empty text is not a duration; write it as 30s, 5m, 24h or 1h30m")
    if not math.isfinite(total) or total < 0:
        raise ValueError(f"{text!r} is not a duration that can be: it must be finite and not negative")
    return total


def parse_bytes(text: str | int) -> int:
    """Bytes in `1024`, `"64GiB"`, `"512 MiB"`; raises ValueError, also for the ambiguous `GB`."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f"{text!r} is not a size; write it as 512MiB or 64GiB")
    if isinstance(text, int):
        size = float(text)
    else:
        match = _PART.fullmatch(text)
        if match and match[2].lower() in {"kb", "mb", "gb", "tb", "k", "m", "g", "t"}:
            unit = match[2][0].upper()
            raise ValueError(f"{text!r} is ambiguous; write {match[1]}{unit}iB")
        if not match or match[2].lower() not in BYTES:
            raise ValueError(f"{text!r} is not a size; write it as 512MiB or 64GiB")
        size = float(match[1]) * BYTES[match[2].lower()]
    if size < 0 or size >= 2**63:
        raise ValueError(f"{text!r} is not a size that can be: it must lie between 0 and 8 EiB")
    return int(size)


def format_bytes(size: float) -> str:
    """`1536` → `1.5 KiB`; MiB and GiB are binary."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """`3725` → `1h02m`, `90` → `1m30s`, `0.25` → `250ms`; the two largest units, no more."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.0f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02d}h"


def format_short(seconds: float) -> str:
    """`0.0615` → `61.5 ms`: of what happens often, three digits that say something."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def format_count(number: float) -> str:
    """`4282386` → `4.28M`, `950` → `950`."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{suffix}"
    return f"{number:.3g}" if number != int(number) else str(int(number))


def counted(number: float, noun: str) -> str:
    """A number with its noun: `1, "step"` → `1 step`, `1200, "step"` → `1,200 steps`, `0.5, "epoch"` → `0.5 epochs`."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"


def format_usd(usd: float) -> str:
    """Money with cents, tenths of a cent below one: `$4.21`, `$0.004`."""
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else f"${usd:.3f}"
