"""What a run has cost, from its own records: the price of an hour as it was known at the launch × the hours of its
attempts. Whatever cannot be read is named; nothing is taken for zero. Of several GPUs in order of preference the one
that was given has its own price (`paid`).

A launch keeps the price in run.json: `{"price": {"usd_per_hour": 2.73, "basis": "…"}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl import record
from runctl.fields import first_of, number
from runctl.light import dataclass

_LIMIT_SECONDS = 100 * 365 * 86400.0


@dataclass(frozen=True)
class Spent:
    """Seconds of all attempts of a run; `faults` say of which of them that is not known for sure."""

    seconds: float
    faults: tuple[str, ...]


def usd_per_hour(content: Mapping[str, Any]) -> float | None:
    """The price of an hour of a run, from its run.json; None where no price was known at its launch."""
    kept = content.get("price")
    if isinstance(kept, Mapping):
        return number(kept, "usd_per_hour")
    guards = content.get("guards")
    for guard in guards if isinstance(guards, list) else ():
        test = guard.get("test") if isinstance(guard, Mapping) else None
        if isinstance(test, Mapping) and test.get("kind") == "cost" and (rate := number(test, "usd_per_hour")):
            return rate
    usd, seconds = likely(content, "cost"), likely(content, "time")
    if usd and seconds:  # of a run that was launched before prices were kept
        return 3600 * usd / seconds
    return 0.0 if content.get("backend", "local") == "local" else None


def likely(content: Mapping[str, Any], name: str) -> float | None:
    """The likely value of an estimate at launch: `time` in seconds, `cost` in USD."""
    estimates = content.get("estimate")
    fact = estimates.get(name) if isinstance(estimates, Mapping) else None
    return number(fact.get("value") if isinstance(fact, Mapping) else None, "likely")


def cost_usd(content: Mapping[str, Any], seconds: float | None, run: record.RunDir | None = None) -> float | None:
    """USD of so many seconds of a run; None where its price is not known. With `run`, its attempts that have ended
    count at their own price."""
    rate = usd_per_hour(content)
    if rate == 0:
        return 0.0
    if rate is None or seconds is None:
        return None
    return max(0.0, rate * seconds / 3600 + (dearer_usd(run, rate) if run is not None else 0.0))


def paid(attempt: record.Attempt) -> float | None:
    """USD an hour of the machine that an attempt was really given, by the container's word; None where it is silent."""
    return number(record.read_object(attempt.container), "usd_per_hour")


def dearer_usd(run: record.RunDir, base: float | None, before: int | None = None) -> float:
    """What attempts that have ended have cost beyond `base` USD an hour (less: negative), because the provider gave
    another of the GPUs that the config would take. `before`: only attempts before that number."""
    total = 0.0
    for attempt in run.attempts() if base is not None else ():
        if before is not None and attempt.number >= before:
            break
        hour, seconds = paid(attempt), number(record.read_json(attempt.exit), "seconds")
        if hour is not None and seconds is not None and base is not None:
            total += (hour - base) * seconds / 3600
    return total


def of_attempts(run: record.RunDir, active: bool, now: float) -> Spent:
    """Seconds of all attempts. The newest of an `active` run counts until now; one without an end on record until its
    last sign of life."""
    attempts, total, faults = run.attempts(), 0.0, []
    for attempt in attempts:
        end = record.read_json(attempt.exit)
        if (seconds := number(end, "seconds")) is not None and seconds >= 0:
            total += min(seconds, _LIMIT_SECONDS)
            continue
        if attempt.exit.exists():
            faults.append(f"attempt {attempt.number}: exit.json is damaged")
        until = now if active and attempt is attempts[-1] else _last_sign(attempt, now)
        begun = first_of([number(record.read_json(attempt.start), "time"), _modified(attempt.start)])
        if begun is None or until is None:
            faults.append(f"attempt {attempt.number}: nothing says how long it was")
            continue
        total += min(max(0.0, until - begun), _LIMIT_SECONDS)
    return Spent(total, tuple(faults))


def _last_sign(attempt: record.Attempt, now: float) -> float | None:
    """When anything of an attempt was written last."""
    times = [_modified(path) for path in (attempt.log, attempt.heartbeat, attempt.result, attempt.start)]
    return max((at for at in times if at is not None and at <= now + 1), default=None)


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
