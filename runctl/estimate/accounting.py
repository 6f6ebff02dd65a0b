"""A run's account: what was estimated at launch beside what happened, and how the calibration moved.

It follows from run.json, the attempts' records and the measurement that the trainer left; the supervisor keeps it in
the run's summary, and hands the measurement on to later estimates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runctl import record
from runctl.estimate import calibration, throughput
from runctl.estimate.calibration import Measurement
from runctl.fields import number


def account(
    run: record.RunDir, *, seconds: float | None, cost_usd: float | None, total_steps: int | None, finished: bool
) -> dict[str, Any]:
    """`{"estimated": {low, likely, high, basis}, "actual", "verdict"}` of time, cost, memory and a step.

    `seconds` are those of all attempts; a run that did not finish is not held against its time and cost. What was
    not estimated, or not measured, is left out. On the CPU the actual memory is the resident size of the process,
    which holds Python and torch as well: it has no verdict.
    """
    estimates = record.read_object(run.run).get("estimate")
    one = measured(run)
    found = {
        "time_seconds": _row(_range(estimates, "time"), seconds if finished else None),
        "cost_usd": _row(_range(estimates, "cost"), cost_usd if finished else None),
    }
    if one is not None:
        found["step_seconds"] = _row(_step(estimates, total_steps), one.step_seconds) | {"spread": one.spread}
        memory = _range(estimates, "memory")
        found["memory_bytes"] = _row(memory, one.reserved_bytes)
        if not one.reserved_bytes and one.resident_bytes and memory:
            found["memory_bytes"] = {"estimated": memory, "actual": one.resident_bytes, "resident": True}
        found["calibration"] = {"device": one.device, "steps": one.steps, "load": one.load}
    return {name: row for name, row in found.items() if row}


def measured(run: record.RunDir) -> Measurement | None:
    """The measurement of the newest attempt that left one."""
    for attempt in reversed(run.attempts()):
        try:
            return calibration.parse(record.read_json(attempt.measured))
        except ValueError:
            continue
    return None


def speed(run: record.RunDir) -> dict[str, Any]:
    """How fast the newest attempt that was measured has trained (`throughput.Throughput`); {} where none was."""
    one = measured(run)
    return throughput.of(one).to_json() if one is not None else {}


def hand_on(run: record.RunDir, number: int, project: Path) -> bool:
    """Keep the measurement of an attempt as a calibration of the project; False if there is none. Raises OSError."""
    try:
        one = calibration.parse(record.read_json(run.attempt(number).measured))
    except ValueError:
        return False
    calibration.save(project, one)
    return True


def _row(estimated: dict[str, Any] | None, actual: float | None) -> dict[str, Any]:
    if estimated is None or actual is None:
        return {}
    return {"estimated": estimated, "actual": actual, "verdict": verdict(estimated, actual)}


def verdict(estimated: dict[str, Any], actual: float) -> str:
    """`inside`, `below` or `above` the range."""
    return "below" if actual < estimated["low"] else "above" if actual > estimated["high"] else "inside"


def _step(estimates: Any, total_steps: int | None) -> dict[str, Any] | None:
    """Seconds of one step, as the estimate took them."""
    time = _value(estimates, "time")
    parts = time.get("parts")
    span = parts.get("steps") if isinstance(parts, dict) else None
    if not isinstance(span, list) or len(span) != 3 or not total_steps or total_steps < 0:
        return None
    amounts = {key: number({key: part}, key) for key, part in zip(("low", "likely", "high"), span, strict=True)}
    if None in amounts.values():
        return None
    return {
        **{key: (part or 0.0) / total_steps for key, part in amounts.items()},
        "basis": time.get("basis"),
    }


def _range(estimates: Any, name: str) -> dict[str, Any] | None:
    value = _value(estimates, name)
    amounts: dict[str, Any] = {key: number(value, key) for key in ("low", "likely", "high")}
    return None if None in amounts.values() else amounts | {"basis": value.get("basis")}


def _value(estimates: Any, name: str) -> dict[str, Any]:
    """The value of one estimate as run.json keeps it: a fact, or why it is unknown."""
    fact = estimates.get(name) if isinstance(estimates, dict) else None
    value = fact.get("value") if isinstance(fact, dict) else None
    return value if isinstance(value, dict) else {}
