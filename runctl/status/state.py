"""The truth table: which state the records and the evidence of life add up to, why, and since when.

What is weighed, in this order: the end on record (exit.json, the last event, summary.json); whether the attempt's
supervisor lives (pid, start time, boot, machine); the trainer's own result; the age of its heartbeat. A run that
another machine owns is believed as long as its heartbeat is fresh, and `lost` after that. A time in the future is no
sign of life: clocks jump, and a flipped bit would keep a corpse alive for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl.evidence import Life
from runctl.fields import first_of, number, text, whole
from runctl.light import dataclass
from runctl.status import away
from runctl.status.facts import Evidence, Records
from runctl.status.values import event, has_ended, reached, task_of
from runctl.supervisor.verdict import NO_STEP, SUPERVISOR_LOST, judge_lost, requested
from runctl.units import format_duration

NEVER_STARTED = "never started"
STALL_SECONDS = 60.0
SKEW_SECONDS = 60.0  # how far ahead another clock may be
_STALL_FACTOR = 2.0
_MOST_ANNOUNCED_SECONDS = 86400.0
_NEVER_STARTED_SECONDS = 10.0
_GONE = (Life.DEAD, Life.REBOOTED)
_TRACES = ("trainer_started", "first_step", "checkpoint")


@dataclass(frozen=True)
class State:
    """`since` is when it ended, None for what goes on."""

    name: str
    reason: str = ""
    since: float | None = None


def judge(records: Records, seen: Evidence, beat: Mapping[str, Any], now: float) -> State:
    """Exactly one state for any records and any evidence. Never raises."""
    found = _judge(records, seen, beat, now)
    if found.name == "succeeded" and task_of(records.run) != "command" and not records.damage and not _stepped(records):
        found = State("failed", NO_STEP, found.since)
    if seen.no_room and found.name in ("failed", "stalled", "lost") and not has_ended(records.exit):
        found = State(found.name, "; ".join(filter(None, [found.reason, seen.no_room])), found.since)
    return _damaged(records, found) if records.damage else found


def beat_age(seen: Evidence, beat: Mapping[str, Any], now: float) -> float | None:
    """Seconds since the last heartbeat; by its file's own time where the heartbeat's lies in the future."""
    for moment in (number(beat, "time"), seen.written if beat else None):
        if moment is not None and now - moment >= -SKEW_SECONDS:
            return max(0.0, now - moment)
    return None


def began(records: Records, beat: Mapping[str, Any]) -> bool:
    """Whether the attempt has done a step: by its event, or where that was lost by the heartbeat."""
    if event(records, "first_step") is not None:
        return True
    step, first = whole(beat, "step"), reached(records.resumed, records.start)
    trained = text(beat, "phase") not in (None, "loading", "ending")
    if task_of(records.run) == "command":  # where it goes on is its own word; the loss of all events makes it count
        return trained and step is not None and event(records, "attempt_started") is None
    return trained and step is not None and step > (first or 0)


def _judge(records: Records, seen: Evidence, beat: Mapping[str, Any], now: float) -> State:
    if isinstance(records.remote, Mapping):
        found = away.judge(records, age=beat_age(seen, beat, now), began=began(records, beat), now=now)
        if found is not None:
            return State(*found)
    for end in (records.exit, event(records, "attempt_ended"), _summary(records)):
        if has_ended(end):
            silent = _silence(records, seen, beat, now)[0]
            sign = number(records.start, "time") if silent is None else now - silent
            return _recorded(records, end, sign, now)
    traces = beat or isinstance(records.result, Mapping) or any(event(records, name) for name in _TRACES)
    if event(records, "attempt_started") is None and not traces:
        return _before_supervisor(records, seen, now)
    silent, since = _silence(records, seen, beat, now)
    unknown, elsewhere = seen.supervisor is Life.UNKNOWN, seen.supervisor is Life.ELSEWHERE
    fresh = elsewhere and silent is not None and silent <= _stall_after(beat)
    if seen.supervisor is Life.ALIVE or fresh or (unknown and seen.trainer is Life.ALIVE):
        return _living(records, seen, beat, now)
    if seen.trainer is Life.ALIVE and not elsewhere:
        return State("failed", f"{SUPERVISOR_LOST}; what it left is being ended", since)
    succeeded = isinstance(records.result, Mapping) and records.result.get("outcome") == "succeeded"
    if succeeded or seen.supervisor in _GONE or (unknown and (seen.trainer in _GONE or records.result is not None)):
        stop = None if elsewhere else requested(event(records, "stop_requested"))
        rebooted = Life.REBOOTED in (seen.supervisor, seen.trainer)
        verdict = judge_lost(records.result, stop=stop, rebooted=rebooted)
        return State(verdict.state, verdict.reason, since)
    if elsewhere:
        where = text(event(records, "attempt_started"), "host") or "another machine"
        last = "that can be dated" if silent is None else f"for {format_duration(silent)}"
        return State("lost", f"no sign of life from {where} {last}", since)
    when = "" if silent is None else f"; last sign of life {format_duration(max(1.0, silent))} ago"
    return State("lost", f"its records do not say which process watches it{when}", since)


def _recorded(records: Records, end: Mapping[str, Any], last_sign: float | None, now: float) -> State:
    """The supervisor's word, unless it claims a success that nothing shows."""
    state, reason = str(end["state"]), text(end, "reason") or ""
    if state == "succeeded":
        shown = [isinstance(records.result, Mapping) and records.result.get("outcome") == "succeeded"]
        shown += [end.get("result") == "succeeded", (_summary(records) or {}).get("state") == "succeeded"]
        shown += [end.get("exit_code") == 0 and (task_of(records.run) == "command" or bool(records.damage))]
        if not any(shown):
            state, reason = "failed", "its record says succeeded, but there is no result"
    since = first_of([number(end, "ended"), number(end, "time"), last_sign])
    return State(state, reason, now if since is None else min(since, now))


def _before_supervisor(records: Records, seen: Evidence, now: float) -> State:
    asked_at = first_of([number(records.start, "time"), number(records.run, "created")]) or 0.0
    age = now - asked_at
    named = isinstance(records.start, Mapping) and "supervisor" in records.start
    if named and seen.supervisor in _GONE:
        return State("failed", f"{NEVER_STARTED}: its supervisor ended before it began", min(asked_at, now))
    if seen.launcher is Life.ALIVE or seen.supervisor is Life.ALIVE:
        late = f"its supervisor has not begun for {format_duration(age)}" if age > STALL_SECONDS else ""
        return State("queued", late)
    young = STALL_SECONDS if seen.launcher is Life.ELSEWHERE else _NEVER_STARTED_SECONDS
    if abs(age) <= young and seen.launcher is not Life.REBOOTED:
        return State("queued")
    since = min(asked_at, now)
    if seen.launcher is Life.ELSEWHERE:
        return State("lost", "launched from another machine, and never seen since", since)
    return State("failed", f"{NEVER_STARTED}: the launch ended before the supervisor ran", since)


def _living(records: Records, seen: Evidence, beat: Mapping[str, Any], now: float) -> State:
    asked = event(records, "stop_requested")
    if asked is not None:
        return State("stopping", text(asked, "reason") or "")
    if seen.trainer in _GONE:
        return State("stopping", "the trainer has ended; its record is being written")
    age = beat_age(seen, beat, now)
    if age is not None and age > _stall_after(beat):
        doing = f" while {text(beat, 'phase')}" if text(beat, "phase") else ""
        return State("stalled", f"no heartbeat for {format_duration(age)}{doing}")
    if began(records, beat):
        return State("running")
    if records.attempt == 1:
        return State("starting")
    again = records.start.get("restart") if isinstance(records.start, Mapping) else None
    return State("restarting", text(again, "words") or "")


def _damaged(records: Records, found: State) -> State:
    """A run whose run.json cannot be read goes on as long as it lives, and keeps the end that is on record; else nobody
    can say what it was. What is known of it is said."""
    known = f"attempt {records.attempt} {found.name}" + (f": {found.reason}" if found.reason else "")
    on_record = any(has_ended(end) for end in (records.exit, event(records, "attempt_ended"), _summary(records)))
    if found.since is None or on_record:
        return State(found.name, "; ".join(filter(None, [found.reason, records.damage])), found.since)
    began_once = event(records, "attempt_started") is not None or isinstance(records.heartbeat, Mapping)
    return State("lost", f"{records.damage}; {known}" if began_once else records.damage, found.since)


def _summary(records: Records) -> Mapping[str, Any] | None:
    """The summary, if it is that of the newest attempt."""
    found = records.summary
    return found if has_ended(found) and whole(found, "attempts") == records.attempt else None


def _stepped(records: Records) -> bool:
    """Whether any record shows a step that was done."""
    sources = (records.exit, records.result, records.heartbeat, records.checkpoint)
    steps = [whole(source, "step") for source in sources] + [whole(records.summary, "steps")]
    return any(step is not None and step > 0 for step in steps)


def _silence(records: Records, seen: Evidence, beat: Mapping[str, Any], now: float) -> tuple[float | None, float]:
    """Seconds since the last sign of life, and when that was; (None, now) if none can be dated."""
    ages = [beat_age(seen, beat, now), *(_age(number(row, "time"), now) for row in records.events)]
    known = [age for age in ages if age is not None]
    return (min(known), now - min(known)) if known else (None, now)


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None or now - moment < -SKEW_SECONDS else max(0.0, now - moment)


def _stall_after(beat: Mapping[str, Any]) -> float:
    """Seconds of silence that mean something: 60, or twice what the trainer announced."""
    announced = min(number(beat, "expect_next_seconds") or 0.0, _MOST_ANNOUNCED_SECONDS)
    return max(STALL_SECONDS, _STALL_FACTOR * announced)
