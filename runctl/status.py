"""The state of a run, derived each time from its records and from evidence of life; it is stored nowhere.

`fold` is the whole truth table, and pure. What it weighs, in this order: the attempt's exit record; whether its
supervisor lives (pid, start time, boot, machine); the trainer's own result; the age of its heartbeat. A run that
another machine owns is believed as long as its heartbeat is fresh, and `lost` after that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl import evidence, record
from runctl.evidence import Life
from runctl.fields import first_of, number, text, whole
from runctl.light import asdict, dataclass
from runctl.supervisor import room
from runctl.supervisor.failures import kind_of
from runctl.supervisor.summary import newest_checkpoint
from runctl.supervisor.verdict import ENDED, SUPERVISOR_LOST, Verdict, judge_lost
from runctl.units import format_duration

ACTIVE = ("queued", "starting", "restarting", "running", "stalled", "stopping")
STATES = (*ACTIVE, *ENDED, "lost")
STALL_SECONDS = 60.0
_STALL_FACTOR = 2.0
_NEVER_STARTED_SECONDS = 10.0
_RATE_SECONDS = 3.0
_RATE_STEPS = 2


@dataclass(frozen=True)
class Records:
    """What the files of a run say; each may be None, torn or nonsense. `events` are the newest attempt's,
    `checkpoint` is the newest whole one on the disk, `damage` what is wrong with run.json."""

    run: Mapping[str, Any]
    attempt: int = 0
    start: Any = None
    events: Sequence[Mapping[str, Any]] = ()
    heartbeat: Any = None
    result: Any = None
    exit: Any = None
    resumed: Any = None
    checkpoint: Any = None
    damage: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the machine says of the processes that the records name; `no_room` if the run's disk is full."""

    launcher: Life = Life.UNKNOWN
    supervisor: Life = Life.UNKNOWN
    trainer: Life = Life.UNKNOWN
    no_room: str = ""


@dataclass(frozen=True)
class RunStatus:
    """One run, now. Times are unix seconds; what is not known is None. `step` is the last one known to be done:
    the heartbeat's, or a later checkpoint's. `guard` is the last to trip in a running attempt. `damage` says
    what is wrong with run.json."""

    run: str
    task: str | None
    state: str
    reason: str
    attempt: int
    phase: str | None
    message: str
    step: int | None
    total_steps: int | None
    progress: float | None
    eta_seconds: float | None
    loss: float | None
    examples_per_second: float | None
    steps_per_second: float | None
    memory_bytes: int | None
    device: str | None
    data_source: str | None
    tracking: dict[str, Any]
    checkpoint_step: int | None
    checkpoint_age_seconds: float | None
    heartbeat_age_seconds: float | None
    first_step: bool
    cost_usd: float | None
    created: float | None
    started: float | None
    ended: float | None
    seconds: float | None
    exit_code: int | None
    failure: str | None
    guard: str
    host: str | None
    leftover: bool
    damage: str

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return not self.active

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read(run: record.RunDir, now: float | None = None) -> RunStatus:
    """The state of one run, from its files and this machine's evidence."""
    records = load(run)
    return fold(records, weigh(records, room.full(run.path)), time.time() if now is None else now)


def observe(run: record.RunDir, grace_seconds: float = 60.0) -> RunStatus:
    """`read`, and if a lost supervisor left its trainer behind, have the backend end that and write the record."""
    found = read(run)
    if found.leftover:
        from runctl import backends

        backends.load(backend_of(run)).end_leftover(run, found.attempt, grace_seconds)
    return found


def backend_of(run: record.RunDir) -> str:
    """The name of the backend that a run was launched on."""
    return str(record.read_object(run.run).get("backend", "local"))


def observe_all(project: Path) -> list[RunStatus]:
    """The state of every run of a project, oldest first."""
    return [observe(run) for run in record.list_runs(project)]


def select(project: Path, everything: bool, states: Sequence[str], most: int) -> tuple[list[RunStatus], int]:
    """The runs to show, and how many are left out: of all, or of those in the given states, the active ones and the
    last `most` that ended (`everything`: however many)."""
    found = [entry for entry in observe_all(project) if not states or entry.state in states]
    ended = [entry.run for entry in found if entry.over]
    shown = set(ended if everything else ended[len(ended) - min(most, len(ended)) :])
    return [entry for entry in found if entry.active or entry.run in shown], len(ended) - len(shown)


def load(run: record.RunDir) -> Records:
    """The small files of a run. The events of an attempt that has its exit record are not needed, and not read."""
    content = record.read_json(run.run)
    attempts = run.attempts()
    damage = "" if isinstance(content, dict) else record.damage(run.run)
    data = {**(content if isinstance(content, dict) else {}), "name": run.name}
    if not attempts:
        return Records(data, damage=damage)
    newest = attempts[-1]
    end = record.read_json(newest.exit)
    rows = [] if _ended(end) else [row for row in record.read_lines(run.events) if row.get("attempt") == newest.number]
    return Records(
        run=data,
        attempt=newest.number,
        start=record.read_json(newest.start),
        events=rows,
        heartbeat=record.read_json(newest.heartbeat),
        result=record.read_json(newest.result),
        exit=end,
        resumed=record.read_json(newest.resumed) if newest.number > 1 else None,
        checkpoint=newest_checkpoint(run),
        damage=damage,
    )


def weigh(records: Records, no_room: str = "") -> Evidence:
    """Ask this machine for the processes that the records name; not asked for an attempt that has ended."""
    if _ended(records.exit):
        return Evidence()
    start = records.start if isinstance(records.start, dict) else {}
    supervisor, trainer = identities(records)
    return Evidence(
        launcher=evidence.life(evidence.from_json(start.get("launcher"))),
        supervisor=evidence.life(supervisor),
        trainer=evidence.group_life(trainer, supervisor.pid if supervisor else None),
        no_room=no_room,
    )


def identities(records: Records) -> tuple[evidence.Identity | None, evidence.Identity | None]:
    """The supervisor and the trainer of the newest attempt, as recorded."""
    begun, trainer = _event(records, "attempt_started"), _event(records, "trainer_started")
    return (
        evidence.from_json(begun.get("supervisor")) if begun else None,
        evidence.from_json(trainer.get("trainer")) if trainer else None,
    )


def fold(records: Records, seen: Evidence, now: float) -> RunStatus:
    """Exactly one state for any records and any evidence. Never raises; `succeeded` needs a result."""
    beat = records.heartbeat if isinstance(records.heartbeat, dict) else {}
    state, reason, ended = _state(records, seen, beat, now)
    leftover = state == "failed" and seen.trainer is Life.ALIVE
    if seen.no_room and state in ("failed", "stalled", "lost") and not _ended(records.exit):
        reason = "; ".join(filter(None, [reason, seen.no_room]))
    if records.damage:
        state, reason = _damaged(records, state, reason)
    end = records.exit if _ended(records.exit) else {}
    result = records.result if isinstance(records.result, dict) else {}
    start = records.start if isinstance(records.start, dict) else {}
    begun = _event(records, "attempt_started") or {}
    over = state not in ACTIVE
    task = task_of(records.run)
    sources = (end, result, beat) if over else (beat,)
    first = first_of(
        [whole(records.resumed, "step"), None if task == "command" or records.damage else whole(start, "from_step")]
    )
    saved = _saved(records, beat, start, task)
    steps = [first_of([*(whole(source, "step") for source in sources), first]), whole(saved, "step")]
    step = max((found for found in steps if found is not None), default=None)
    total = first_of([whole(source, "total_steps") for source in sources])
    started = first_of([number(end, "started"), number(begun, "time"), number(start, "time")])
    saved_at, beat_at = number(saved, "time"), number(beat, "time")
    measured = step is not None and step - (first or 0) >= _RATE_STEPS
    steps_per_second = _steps_per_second(records, beat) if measured and not over else None
    left = None if step is None or total is None else max(0, total - step)
    return RunStatus(
        run=str(records.run.get("name", "")),
        task=task,
        state=state,
        reason=reason,
        attempt=records.attempt,
        phase=text(beat, "phase"),
        message=text(beat, "message") or "",
        step=step,
        total_steps=total,
        progress=min(1.0, step / total) if step is not None and total else None,
        eta_seconds=left / steps_per_second if left is not None and steps_per_second else None,
        loss=number(beat, "loss"),
        examples_per_second=number(beat, "examples_per_second") if measured else None,
        steps_per_second=steps_per_second,
        memory_bytes=whole(beat, "memory_bytes"),
        device=text(beat, "device"),
        data_source=text(beat, "data_source"),
        tracking=beat["tracking"] if isinstance(beat.get("tracking"), dict) else {},
        checkpoint_step=whole(saved, "step"),
        checkpoint_age_seconds=None if saved_at is None else max(0.0, now - saved_at),
        heartbeat_age_seconds=None if beat_at is None else max(0.0, now - beat_at),
        first_step=_event(records, "first_step") is not None or state == "succeeded",
        cost_usd=0.0 if records.run.get("backend", "local") == "local" else None,
        created=number(records.run, "created"),
        started=started,
        ended=ended if over else None,
        seconds=first_of([number(end, "seconds"), _elapsed(started, ended if over else now)]),
        exit_code=whole(end, "exit_code"),
        failure=kind_of(end) if state == "failed" else None,
        guard=_tripped(records) if not over else "",
        host=text(begun, "host"),
        leftover=leftover,
        damage=records.damage,
    )


def task_of(data: Mapping[str, Any]) -> str | None:
    """The task in the config of a run.json."""
    return text(data.get("config"), "task")


def _damaged(records: Records, state: str, reason: str) -> tuple[str, str]:
    """A run whose run.json cannot be read goes on as long as it lives; afterwards nobody can say what it was."""
    if state in ACTIVE:
        return state, "; ".join(filter(None, [records.damage, reason]))
    known = _ended(records.exit) or _event(records, "attempt_started") is not None
    said = f"; attempt {records.attempt} {state}" + (f": {reason}" if reason else "")
    return "lost", records.damage + (said if known else "")


def _saved(records: Records, beat: Mapping[str, Any], start: Mapping[str, Any], task: str | None) -> Mapping[str, Any]:
    """The newest checkpoint: the one on the disk; of a program that keeps its own elsewhere, what it says."""
    said = () if task not in (None, "command") else (beat.get("checkpoint"), start.get("checkpoint"))
    return next((entry for entry in (records.checkpoint, *said) if isinstance(entry, dict)), {})


def _state(records: Records, seen: Evidence, beat: Mapping[str, Any], now: float) -> tuple[str, str, float | None]:
    """State, reason, and when it ended."""
    for end in (records.exit, _event(records, "attempt_ended")):
        if isinstance(end, Mapping) and _ended(end):
            return _recorded(records, end)
    if _event(records, "attempt_started") is None:
        return _before_supervisor(records, seen, now)
    last_sign = _last_sign(records, beat)
    if seen.supervisor is Life.ALIVE:
        return _living(records, seen, beat, now)
    if seen.supervisor is Life.ELSEWHERE:
        if now - last_sign <= _stall_after(beat):
            return _living(records, seen, beat, now)
        verdict = judge_lost(records.result, stop_requested=False, rebooted=False)
        if verdict.state == "succeeded":
            return "succeeded", "", last_sign
        where = text(_event(records, "attempt_started") or {}, "host") or "another machine"
        return "lost", f"no sign of life from {where} for {format_duration(now - last_sign)}", last_sign
    if seen.trainer is Life.ALIVE:
        return "failed", f"{SUPERVISOR_LOST}; what it left is being ended", last_sign
    asked = _event(records, "stop_requested") is not None
    verdict = judge_lost(records.result, stop_requested=asked, rebooted=seen.supervisor is Life.REBOOTED)
    return verdict.state, verdict.reason, last_sign


def _recorded(records: Records, end: Mapping[str, Any]) -> tuple[str, str, float | None]:
    """The supervisor's word, unless it claims a success that nothing shows."""
    verdict = Verdict(str(end["state"]), text(end, "reason") or "")
    command = task_of(records.run) == "command"
    shown = isinstance(records.result, Mapping) and records.result.get("outcome") == "succeeded"
    if verdict.state == "succeeded" and not shown and not (command and end.get("exit_code") == 0):
        verdict = Verdict("failed", "its record says succeeded, but there is no result")
    return verdict.state, verdict.reason, first_of([number(end, "ended"), number(end, "time")])


def _before_supervisor(records: Records, seen: Evidence, now: float) -> tuple[str, str, float | None]:
    asked_at = first_of([number(records.start, "time"), number(records.run, "created")]) or 0.0
    age = now - asked_at
    if seen.launcher is Life.ALIVE or (seen.launcher is not Life.REBOOTED and age <= _NEVER_STARTED_SECONDS):
        return "queued", "", None
    if seen.launcher is Life.ELSEWHERE:
        if age <= STALL_SECONDS:
            return "queued", "", None
        return "lost", "launched from another machine, and never seen since", asked_at
    return "failed", "never started: the launch ended before the supervisor ran", asked_at


def _living(records: Records, seen: Evidence, beat: Mapping[str, Any], now: float) -> tuple[str, str, float | None]:
    if _event(records, "stop_requested") is not None:
        return "stopping", text(_event(records, "stop_requested") or {}, "reason") or "", None
    if _event(records, "trainer_started") is not None and seen.trainer is Life.DEAD:
        return "stopping", "the trainer has ended; its record is being written", None
    beat_at = number(beat, "time")
    if beat_at is not None and now - beat_at > _stall_after(beat):
        doing = f" while {text(beat, 'phase')}" if text(beat, "phase") else ""
        return "stalled", f"no heartbeat for {format_duration(now - beat_at)}{doing}", None
    if _event(records, "first_step") is not None:
        return "running", "", None
    if records.attempt == 1:
        return "starting", "", None
    again = records.start.get("restart") if isinstance(records.start, Mapping) else None
    return "restarting", text(again, "words") or "", None


def _stall_after(beat: Mapping[str, Any]) -> float:
    """Seconds of silence that mean something: 60, or twice what the trainer announced."""
    return max(STALL_SECONDS, _STALL_FACTOR * (number(beat, "expect_next_seconds") or 0.0))


def _last_sign(records: Records, beat: Mapping[str, Any]) -> float:
    times = [number(beat, "time"), *(number(row, "time") for row in records.events)]
    return max((moment for moment in times if moment is not None), default=0.0)


def _steps_per_second(records: Records, beat: Mapping[str, Any]) -> float | None:
    """The rate of this attempt, since its first step (validations and checkpoints included); right after the
    start, from the examples per second that the trainer reports."""
    first, step, at = _event(records, "first_step"), whole(beat, "step"), number(beat, "time")
    if first is not None and step is not None and at is not None:
        since, at_first = number(first, "heartbeat_time") or number(first, "time"), whole(first, "step")
        if since is not None and at_first is not None and at - since >= _RATE_SECONDS and step > at_first:
            return (step - at_first) / (at - since)
    rate, config = number(beat, "examples_per_second"), records.run.get("config")
    training = config.get("training") if isinstance(config, Mapping) and config.get("task") != "command" else None
    if rate is None or not isinstance(training, Mapping):
        return None
    batch = (whole(training, "batch_size") or 0) * (whole(training, "accumulation") or 1)
    return rate / batch if batch > 0 and rate > 0 else None


def _elapsed(started: float | None, until: float | None) -> float | None:
    return None if started is None or until is None else max(0.0, until - started)


def _tripped(records: Records) -> str:
    """The guard of the attempt that has tripped last, and why."""
    row = _event(records, "guard_tripped")
    return "" if row is None else f"guard {text(row, 'guard')}: {text(row, 'reason')}"


def _event(records: Records, name: str) -> Mapping[str, Any] | None:
    return next((row for row in reversed(records.events) if row.get("event") == name), None)


def _ended(end: Any) -> bool:
    return isinstance(end, Mapping) and end.get("state") in ENDED
