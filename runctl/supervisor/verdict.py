"""How an attempt ended, judged from what it left: a pure function of the result, the exit and what was asked.

The trainer's own result comes first, its exit code second; an exit code of 0 without a result proves nothing, except
for a program of the user's own (`task: command`), which has no other way to say that it succeeded.
"""

from __future__ import annotations

import signal
from typing import Any, Literal, get_args

from runctl.light import dataclass

ENDED = ("succeeded", "failed", "stopped", "killed")
SUPERVISOR_LOST = "supervisor lost"
NO_STEP = "it says that it succeeded, and took no step"
Kind = Literal["asked", "preempted", "timeout", "hang", "guard"]


@dataclass(frozen=True)
class Stop:
    """Why the supervisor asked the trainer to stop."""

    kind: Kind
    reason: str
    at_once: bool = False  # without a grace period


@dataclass(frozen=True)
class Verdict:
    state: str
    reason: str


def of_signal(number: int, request: Any) -> Stop:
    """Why the supervisor stops at a signal: `runctl stop` leaves its `request` (asked.json) before it sends one;
    without it, the machine is taken back or goes down, or somebody ended the process by hand."""
    name = signal.Signals(number).name
    if isinstance(request, dict):
        return Stop("asked", f"stopped on request ({name})")
    return Stop("preempted", f"preempted: {name} from outside, not by runctl stop")


def judge(
    result: Any,
    returncode: int | None,
    *,
    command: bool,
    stop: Stop | None = None,
    forced: bool = False,
    last_line: str = "",
    no_room: str = "",
) -> Verdict:
    """The verdict on a trainer that has ended.

    `result` is result.json as read (None if absent or damaged), `returncode` as subprocess gives it (negative: a
    signal), `stop` what the supervisor asked for, `forced` whether it had to kill, `last_line` the log's last line,
    `no_room` whether the disk was full at the end: then a trainer without a result most likely died of it.
    """
    outcome = _outcome(result)
    if outcome == "succeeded" and not command and result.get("step") == 0:
        return Verdict("failed", NO_STEP)
    if outcome == "succeeded" or (command and outcome is None and returncode == 0 and stop is None):
        return Verdict("succeeded", "")
    if stop is not None:
        late = "; it did not end in time and was killed" if forced and not stop.at_once else ""
        crashed = (
            outcome is None and not command and not forced and returncode not in (None, -signal.SIGTERM, -signal.SIGINT)
        )
        asked = stop.kind in ("asked", "preempted")
        if asked and crashed:
            return Verdict(
                "failed", f"{no_room or _died(returncode)} while it was stopping: its last save may be missing"
            )
        if asked and (outcome != "failed" or forced):
            return Verdict("stopped", stop.reason + late)
        if stop.kind == "guard":
            then = f"; then it failed: {error_text(result)}" if outcome == "failed" else ""
            return Verdict("killed", stop.reason + late + then)
        if not asked:
            return Verdict("failed", stop.reason + late)
    if outcome == "failed":
        return Verdict("failed", error_text(result))
    if outcome == "stopped":
        name = result.get("signal")
        by = f" ({name})" if isinstance(name, str) and name else ""
        return Verdict("stopped", f"preempted: the trainer was asked to stop from outside{by}")
    if no_room and returncode != -signal.SIGKILL:
        return Verdict("failed", f"{no_room} ({_died(returncode)})")
    if returncode is None:
        return Verdict("failed", "the trainer ended and left no result")
    if returncode < 0:
        return Verdict("failed", _signal_text(-returncode))
    if returncode == 0:
        return Verdict("failed", "exit 0 without a result")
    return Verdict("failed", f"exit {returncode}" + (f": {last_line}" if last_line else ""))


def requested(row: Any) -> Stop | None:
    """The request to stop that an event of it tells of."""
    if not isinstance(row, dict):
        return None
    kinds: dict[Any, Kind] = {kind: kind for kind in get_args(Kind)}
    return Stop(kinds.get(str(row.get("kind")), "asked"), str(row.get("reason") or "stopped on request"))


def judge_lost(result: Any, *, stop: Stop | None, rebooted: bool, gone: str = "") -> Verdict:
    """The verdict on an attempt whose supervisor died before it could write one; `stop` is what it had asked the
    trainer for, `gone` what became of it if that is known."""
    outcome = _outcome(result)
    if outcome == "succeeded":
        return Verdict("succeeded", "")
    if outcome == "stopped" and stop is not None:  # the trainer has done as it was asked
        verdict = judge(result, 0, command=False, stop=stop)
        return Verdict(verdict.state, f"{verdict.reason}, then its supervisor was lost")
    if rebooted:
        return Verdict("failed", f"{SUPERVISOR_LOST}: {gone or 'the machine restarted'}")
    if outcome == "failed" and SUPERVISOR_LOST not in (text := error_text(result)):
        return Verdict("failed", f"{text} ({SUPERVISOR_LOST} too)")
    return Verdict("failed", SUPERVISOR_LOST)


def error_text(result: Any) -> str:
    """One line for the error in a result, without its trace."""
    error = result.get("error") if isinstance(result, dict) else None
    if not isinstance(error, dict):
        return "the trainer failed and gave no reason"
    kind, message = str(error.get("type") or ""), " ".join(str(error.get("message") or "").split())
    if message and error.get("where") is None:
        return message  # an error of runctl's own is written for people and names no place in the code
    return ": ".join(part for part in (kind, message) if part) or "the trainer failed and gave no reason"


def _outcome(result: Any) -> str | None:
    outcome = result.get("outcome") if isinstance(result, dict) else None
    return outcome if outcome in ("succeeded", "stopped", "failed") else None


def _died(returncode: int | None) -> str:
    return _signal_text(-returncode) if returncode and returncode < 0 else f"exit {returncode}"


def _signal_text(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    hint = ": killed from outside" if name == "SIGKILL" else ""
    return f"signal {number} ({name}){hint}"
