"""The end of an attempt on record: exit.json, the last event and summary.json, with the class of a failure.

Also the end of an attempt whose supervisor was lost, written by the next one or by a closer.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import evidence, fields, record
from runctl.estimate import accounting
from runctl.supervisor import failures, hang, masks, summary
from runctl.supervisor.events import Events, say
from runctl.supervisor.verdict import SUPERVISOR_LOST, Verdict, judge_lost, requested

_TAIL_LINES = 400


def close(run: record.RunDir, number: int, grace_seconds: float, gone: str = "", known: Verdict | None = None) -> bool:
    """Write the end of an attempt whose supervisor did not, once nothing of it lives. False: it may still live.
    `gone`: what is known to have happened to the machine that it lived on; `known`: how it ended, by who saw it."""
    attempt = run.attempt(number)
    if isinstance(record.read_json(attempt.exit), dict):
        return True
    rows = [row for row in record.read_lines(run.events) if row.get("attempt") == number]
    trainer = _identity(rows, "trainer_started", "trainer")
    supervisor = _identity(rows, "attempt_started", "supervisor")
    life = evidence.Life.REBOOTED if gone else evidence.life(supervisor)
    if life not in (evidence.Life.DEAD, evidence.Life.REBOOTED):
        return False
    if trainer is not None and life is evidence.Life.DEAD:
        _end_leftover(trainer, supervisor.pid if supervisor else None, grace_seconds)
    if life is evidence.Life.DEAD:
        _end_marked(run.path)
    masks.catch_up(run, number)
    result, beat = record.read_json(attempt.result), record.read_json(attempt.heartbeat)
    stop = requested(next((row for row in reversed(rows) if row.get("event") == "stop_requested"), None))
    verdict = known or judge_lost(result, stop=stop, rebooted=life is evidence.Life.REBOOTED, gone=gone)
    lost = verdict.reason.startswith(SUPERVISOR_LOST)
    now = time.time()
    signs = [sign for sign in (fields.number(source, "time") for source in (*rows, beat)) if sign is not None]
    times = [sign for sign in signs if 0 < sign <= now] or [now]
    failure = failures.classify(
        verdict.state,
        returncode=None,
        error=error_of(result),
        reason=verdict.reason,
        lost=lost,
        stopped_for=stop.kind if stop is not None and not lost else None,
        tail=tail(attempt.log),
    )
    later = next((one.number for one in run.attempts() if one.number > number), None)  # whose summary it will be
    write(run, number, verdict, failure, None, result, times[0], max(times) - times[0], later)
    return True


def write(
    run: record.RunDir,
    number: int,
    verdict: Verdict,
    failure: failures.Failure | None,
    returncode: int | None,
    result: Any,
    started: float,
    seconds: float,
    following: int | None = None,
    events: Events | None = None,
) -> None:
    """exit.json, the last event and summary.json, in this order: the first one alone decides. A run that goes on by
    itself (`following`) has no summary yet."""
    ended = started + seconds
    attempt = run.attempt(number)
    heartbeat = record.read_json(attempt.heartbeat)
    entry = summary.exit_record(
        verdict,
        returncode=returncode,
        heartbeat=heartbeat,
        result=result,
        started=started,
        ended=ended,
        seconds=seconds,
        checkpoint=summary.newest_checkpoint(run),
        failure=failure,
    )
    try:
        record.write_json(attempt.exit, entry)
    except OSError as error:
        say(f"cannot write {attempt.exit}: {error}")
    (events or Events(run, number)).add(
        "attempt_ended", state=verdict.state, reason=verdict.reason, exit_code=entry["exit_code"], step=entry["step"]
    )
    calibrate(run, number)
    if following is None:
        summarize(run, number, verdict, ended)


def summarize(run: record.RunDir, number: int, verdict: Verdict, ended: float) -> None:
    """summary.json, of an attempt whose end is on record."""
    try:
        record.write_json(run.summary, fields.storable(summary.build(run, number, verdict, ended)))
    except (OSError, ValueError) as error:
        say(f"cannot write {run.summary}: {error}")


def calibrate(run: record.RunDir, number: int) -> bool:
    """Hand what the trainer measured on to later estimates; what cannot be kept is said in the supervisor's log."""
    project = record.content(run, number).get("project")
    try:
        return isinstance(project, str) and accounting.hand_on(run, number, Path(project))
    except OSError as error:
        say(f"the calibration was not kept: {error}")
        return True


def last_line(log: Path, limit: int = 300) -> str:
    """The last line of a log that says something, for the reason of a failure."""
    return next((line.strip()[:limit] for line in reversed(tail(log, 4096)) if line.strip()), "")


def tail(log: Path, size: int = 1 << 16) -> list[str]:
    """The lines at the end of a log; [] if it cannot be read."""
    try:
        with record.open_file(log) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            text = file.read().decode(errors="replace").removesuffix("\n")
            lines = text.split("\n")[-_TAIL_LINES:] if text else []
            return [line.rstrip("\r").rpartition("\r")[2] for line in lines]  # of a progress bar its last state
    except OSError:
        return []


def error_of(result: Any) -> Any:
    """The error in a result.json as read."""
    return result.get("error") if isinstance(result, dict) else None


def _end_leftover(trainer: evidence.Identity, session: int | None, grace_seconds: float) -> None:
    """SIGTERM to an orphaned trainer, then SIGKILL to its group once the grace period is over."""
    deadline = time.monotonic() + grace_seconds
    evidence.send(trainer, signal.SIGTERM)
    while evidence.group_life(trainer, session) is evidence.Life.ALIVE:
        hang.wake(trainer.pid)  # a stopped process takes no signal until it runs again
        if evidence.life(trainer) is evidence.Life.DEAD or time.monotonic() >= deadline:
            for pid in evidence.members(trainer.pid, session):
                found = evidence.identify(pid)
                if found:
                    evidence.send(found, signal.SIGKILL)
        time.sleep(0.1)


def _end_marked(run_dir: Path) -> None:
    """SIGKILL to what left the trainer's group and outlived it: without the supervisor, only its environment tells."""
    for pid in evidence.marked(run_dir):
        if found := evidence.identify(pid):
            with suppress(PermissionError):
                evidence.send(found, signal.SIGKILL)


def _identity(rows: list[dict[str, Any]], event: str, key: str) -> evidence.Identity | None:
    return next((evidence.from_json(row.get(key)) for row in rows if row.get("event") == event), None)
