"""`fold`: from the records of a run and the evidence of life to its status. Pure: no file is read, no process asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runctl import spending
from runctl.evidence import Life
from runctl.fields import first_of, number, text
from runctl.status import state as states
from runctl.status.facts import ACTIVE, Evidence, Records, RunStatus
from runctl.status.values import count, event, has_ended, reached, task_of
from runctl.supervisor import failures

_RATE_SECONDS = 3.0
_RATE_STEPS = 2


def fold(records: Records, seen: Evidence, now: float) -> RunStatus:
    """Exactly one state for any records and any evidence. Never raises; `succeeded` needs a result."""
    beat = records.heartbeat if isinstance(records.heartbeat, dict) else {}
    found = states.judge(records, seen, beat, now)
    over = found.name not in ACTIVE
    end = records.exit if has_ended(records.exit) else {}
    result = records.result if isinstance(records.result, dict) else {}
    start = records.start if isinstance(records.start, dict) else {}
    begun = event(records, "attempt_started") or {}
    task = task_of(records.run)
    sources = (end, result, beat) if over else (beat,)
    guessed = task == "command" or bool(records.damage)  # where its launcher meant it to go on says nothing
    first = reached(records.resumed, None if guessed else start)
    saved = _saved(records, beat, start, task)
    told = first_of([count(source, "step") for source in sources])
    steps = [first_of([told, first]), count(saved, "step")]
    if task == "command" and told is not None and count(saved, "attempt") not in (None, records.attempt):
        steps = [told]  # where a program of one's own goes on is its own word, not an earlier attempt's checkpoint
    step = max((known for known in steps if known is not None), default=None)
    total = first_of([count(source, "total_steps") for source in sources])
    started = first_of([number(end, "started"), number(begun, "time"), number(start, "time")])
    saved_at = number(saved, "time")
    measured = step is not None and step - (first or 0) >= _RATE_STEPS
    rate = _steps_per_second(records, beat) if measured and not over else None
    left = None if step is None or total is None else max(0, total - step)
    seconds = first_of([number(end, "seconds"), _elapsed(started, found.since if over else now)])
    spent = _total(records.earlier, seconds)
    ends = failures.count([*records.earlier, end])
    return RunStatus(
        run=str(records.run.get("name", "")),
        task=task,
        state=found.name,
        reason=found.reason,
        attempt=records.attempt,
        phase=text(beat, "phase"),
        message=text(beat, "message") or "",
        step=step,
        total_steps=total,
        progress=min(1.0, step / total) if step is not None and total else None,
        eta_seconds=left / rate if left is not None and rate and found.name == "running" else None,
        loss=number(beat, "loss"),
        examples_per_second=number(beat, "examples_per_second") if measured and not over else None,
        steps_per_second=rate,
        memory_bytes=count(beat, "memory_bytes"),
        device=text(beat, "device"),
        data_source=text(beat, "data_source"),
        tracking=_tracking(beat),
        checkpoint_step=count(saved, "step"),
        checkpoint_age_seconds=None if saved_at is None else max(0.0, now - saved_at),
        heartbeat_age_seconds=states.beat_age(seen, beat, now),
        first_step=states.began(records, beat) or (over and step is not None and step > (first or 0)),
        cost_usd=_cost(records, spent, seconds),
        created=number(records.run, "created"),
        started=started,
        ended=found.since if over else None,
        seconds=seconds,
        total_seconds=spent,
        interruptions=ends["interruptions"],
        failures=ends["failures"],
        exit_code=count(end, "exit_code"),
        failure=failures.kind_of(end) if over and found.name != "succeeded" else None,
        guard=_tripped(records) if not over else "",
        host=text(begun, "host"),
        leftover=found.name == "failed" and seen.trainer is Life.ALIVE,
        damage=records.damage,
        changed=records.changed,
        resume=None if over else _resume(records),
        source=text(beat, "source"),
        disk="" if over else _filling(records),
    )


def _saved(records: Records, beat: Mapping[str, Any], start: Mapping[str, Any], task: str | None) -> Mapping[str, Any]:
    """The newest checkpoint: the one on the disk; of a program that keeps its own elsewhere, what it says."""
    told = () if task not in (None, "command") else (beat.get("checkpoint"), start.get("checkpoint"))
    return next((entry for entry in (records.checkpoint, *told) if isinstance(entry, dict)), {})


def _steps_per_second(records: Records, beat: Mapping[str, Any]) -> float | None:
    """The rate of this attempt, since its first step (validations and checkpoints included); right after the
    start, from the examples per second that the trainer reports."""
    first, step, at = event(records, "first_step"), count(beat, "step"), number(beat, "time")
    if first is not None and step is not None and at is not None:
        since, at_first = number(first, "heartbeat_time") or number(first, "time"), count(first, "step")
        if since is not None and at_first is not None and at - since >= _RATE_SECONDS and step > at_first:
            return (step - at_first) / (at - since)
    rate, config = number(beat, "examples_per_second"), records.run.get("config")
    training = config.get("training") if isinstance(config, Mapping) and config.get("task") != "command" else None
    if rate is None or not isinstance(training, Mapping):
        return number(beat, "steps_per_second") or None
    batch = (count(training, "batch_size") or 0) * (count(training, "accumulation") or 1)
    return rate / batch if batch > 0 and rate > 0 else None


def _cost(records: Records, spent: float | None, seconds: float | None) -> float | None:
    """USD so far: at the price of the launch, and what the machines that were really given cost beyond it."""
    usd, base = spending.cost_usd(records.run, spent), spending.usd_per_hour(records.run)
    container = records.container if isinstance(records.container, Mapping) else {}
    hour = number(container, "usd_per_hour")
    if not usd or base is None:
        return usd
    newest = 0.0 if hour is None or seconds is None else (hour - base) * seconds / 3600
    return max(0.0, usd + records.dearer_usd + newest)


def _elapsed(started: float | None, until: float | None) -> float | None:
    return None if started is None or until is None else max(0.0, until - started)


def _total(earlier: Sequence[Any], seconds: float | None) -> float | None:
    """Seconds of all attempts, as far as they are on record."""
    known = [one for one in (*(number(end, "seconds") for end in earlier), seconds) if one is not None]
    return sum(known) if known else None


def _tracking(beat: Mapping[str, Any]) -> dict[str, Any]:
    told = beat.get("tracking")
    pairs = told.items() if isinstance(told, dict) else ()
    return {name: words for name, words in pairs if isinstance(words, str)}


def _tripped(records: Records) -> str:
    """The guard of the attempt that has tripped last, and why."""
    row = event(records, "guard_tripped")
    return "" if row is None else f"guard {text(row, 'guard')}: {text(row, 'reason')}"


def _filling(records: Records) -> str:
    """That the disk will be full, unless room was made since."""
    kinds = ("disk_filling", "disk_eased")
    row = next((row for row in reversed(records.events) if text(row, "event") in kinds), None)
    return (text(row, "reason") or "") if text(row, "event") == "disk_filling" else ""


def _resume(records: Records) -> dict[str, Any] | None:
    """What was found of a resume, once it is known."""
    kinds = {"resume_verified": True, "resume_doubtful": False}
    for row in records.events:
        if (name := text(row, "event")) in kinds:
            return {"verified": kinds[str(name)], "words": text(row, "reason") or ""}
    return None
