"""One run in a few words each: its progress, rate, age, money, and what is to be said of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from runctl.status import RunStatus
from runctl.units import counted, format_bytes, format_count, format_duration, format_usd

MISSING = "–"
STATE_STYLES = {"succeeded": "good", "failed": "bad", "killed": "bad", "lost": "bad", "stalled": "warn"}
STATE_STYLES |= {"stopped": "warn", "stopping": "warn", "running": "name"}


def age(seconds: float | None) -> str:
    """How long ago, or a dash."""
    return MISSING if seconds is None else f"{format_duration(max(1.0, seconds))} ago"


def progress(entry: RunStatus) -> str:
    if entry.step is None:
        return MISSING
    if not entry.total_steps:
        return f"{entry.step:,}"
    share = round(100 * (entry.progress or 0))
    share -= share == 100 and entry.step < entry.total_steps  # 99.9 % is not done
    return f"{entry.step:,}/{entry.total_steps:,} {share}%"


def eta(entry: RunStatus) -> str:
    """When the run will have done its last step; "" where that cannot be said, or it has."""
    if not entry.active or not entry.eta_seconds:
        return ""
    return "under 1s" if entry.eta_seconds < 1 else format_duration(entry.eta_seconds)


def rate(entry: RunStatus) -> str:
    """Examples, else steps, per second; of a run that is over, nothing: the last seconds say little of the whole."""
    if not entry.active:
        return MISSING
    if entry.examples_per_second is not None:
        return f"{format_count(entry.examples_per_second)} ex/s"
    return MISSING if entry.steps_per_second is None else f"{entry.steps_per_second:.3g} steps/s"


def reason(entry: RunStatus) -> str:
    """Why it is as it is, and what else went wrong."""
    troubles = [f"{name}: {text}" for name, text in entry.tracking.items() if str(text).startswith("failed")]
    troubles += [entry.guard] if entry.guard and entry.guard not in entry.reason else []
    troubles += [entry.disk] if entry.disk else []
    words = [entry.reason or (entry.message if entry.active else ""), *troubles]
    return "; ".join(word for word in words if word)


def attempts(entry: RunStatus) -> str:
    """`3: 1 failure, 1 interruption`; a dash for a run that was started once and has not failed."""
    if entry.attempt < 2:
        return MISSING
    counts = ((entry.failures, "failure"), (entry.interruptions, "interruption"))
    words = ", ".join(counted(number, noun) for number, noun in counts if number)
    return f"{entry.attempt}: {words}" if words else str(entry.attempt)


def since(at: float | None) -> str:
    """How long ago a moment was."""
    return MISSING if at is None else age(time.time() - at)


def one_line(words: str, width: int | None = None) -> str:
    """Words on one line, cut to a width."""
    line = " ".join(words.split())
    return line if width is None or len(line) <= width else f"{line[: max(0, width - 1)]}…"


def value(found: Any) -> str:
    """A setting of a config in a table."""
    if found is None:
        return MISSING
    return f"{found:g}" if isinstance(found, float) else str(found).lower() if isinstance(found, bool) else str(found)


CELLS: dict[str, Callable[[RunStatus], str]] = {
    "run": lambda entry: entry.run,
    "state": lambda entry: entry.state,
    "step": progress,
    "ETA": lambda entry: eta(entry) or MISSING,
    "loss": lambda entry: MISSING if entry.loss is None else f"{entry.loss:.4g}",
    "rate": rate,
    "memory": lambda entry: MISSING if entry.memory_bytes is None else format_bytes(entry.memory_bytes),
    "checkpoint": lambda entry: age(entry.checkpoint_age_seconds),
    "heartbeat": lambda entry: age(entry.heartbeat_age_seconds) if entry.active else MISSING,
    "attempts": attempts,
    "time": lambda entry: MISSING if entry.total_seconds is None else format_duration(entry.total_seconds),
    "cost": lambda entry: MISSING if entry.cost_usd is None else format_usd(entry.cost_usd),
    "started": lambda entry: since(entry.created or entry.started),
    "ended": lambda entry: since(entry.ended),
    "task": lambda entry: entry.task or MISSING,
    "device": lambda entry: entry.device or MISSING,
    "host": lambda entry: entry.host or MISSING,
    "failure": lambda entry: (entry.failure or MISSING).replace("_", " "),
    "reason": lambda entry: one_line(reason(entry)),
}
TEXT = ("run", "state", "started", "ended", "task", "device", "host", "attempts", "failure", "reason")
