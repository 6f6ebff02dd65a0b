"""Stop a run: the trainer finishes its step, saves a checkpoint and ends; what does not end in time is killed."""

from __future__ import annotations

import getpass
import time
from contextlib import suppress

from runctl import backends, evidence, fields, record, status
from runctl import config as configs
from runctl.errors import RefusedError, RunFailed, UsageError, WaitTimeout
from runctl.units import counted, format_duration

_MARGIN_SECONDS = 30.0
_QUEUED_SECONDS = 15.0
_LOOK_SECONDS = 0.5
_IS = {"stalled": "has stalled", "stopping": "is stopping already"}


def at_stake(found: status.RunStatus) -> str:
    """In words: where the run is, and what would be lost if its last save failed."""
    if found.leftover:
        return f"{found.run} has ended: {found.state}: {found.reason}"
    said = f"{found.run} {_IS.get(found.state, f'is {found.state}')}"
    if found.step:
        said += f" at step {found.step:,}" + (f" of {found.total_steps:,}" if found.total_steps else "")
    elif found.task != "command":
        said += ", before its first step"
    elif found.seconds is not None:
        said += f", {format_duration(found.seconds)} after its start"
    if found.checkpoint_step is None:
        return said + ("" if found.task == "command" else "; no checkpoint yet: all of it is lost if saving fails")
    seconds = found.checkpoint_age_seconds
    age = "" if seconds is None else f", {format_duration(max(1.0, seconds))} ago"
    behind = (found.step or 0) - found.checkpoint_step
    return f"{said}; last checkpoint at step {found.checkpoint_step:,}{age}" + (
        f" ({counted(behind, 'step')} back)" if behind > 0 else ""
    )


def outcome(found: status.RunStatus) -> str:
    """In words: how a run has ended, and how to go on with it."""
    if found.state != "stopped" or found.damage:
        return f"{found.run} has ended: {found.state}" + (f": {found.reason}" if found.reason else "")
    if found.checkpoint_step is not None:
        return (
            f"{found.run} has stopped: checkpoint at step {found.checkpoint_step:,}. Go on: runctl resume {found.run}"
        )
    if found.task == "command":
        return f"{found.run} has stopped. Start its program again: runctl resume {found.run}"
    return f"{found.run} has stopped: no checkpoint. Start it again: runctl resume {found.run}"


def stop(run: record.RunDir, timeout_seconds: float | None = None) -> status.RunStatus:
    """Ask a run to stop and wait until it has ended; returns its last status (at once if it had ended before).

    Raises UsageError if it runs on another machine, RefusedError if it is another user's, WaitTimeout if it has
    not ended after its grace period and a margin.
    """
    found = status.observe(run)
    if found.over and not found.leftover:
        return found
    if run.remote.exists():
        return _stop_elsewhere(run, found, timeout_seconds)
    backend = backends.load(status.backend_of(run))
    begun = time.monotonic()
    given = fields.number((record.content(run).get("config") or {}).get("compute"), "grace")
    limit = timeout_seconds if timeout_seconds is not None else (given or 60.0) + _MARGIN_SECONDS
    asked = False
    while found.active or found.leftover:
        if not asked and found.active:
            asked = _ask(backend, run, found)
        if not asked and found.state == "queued" and time.monotonic() - begun > _QUEUED_SECONDS:
            raise RunFailed(
                f"{run.name} is queued, and its supervisor does not appear", hint="end the launch that waits for it"
            )
        if time.monotonic() - begun > limit:
            raise WaitTimeout(
                f"{run.name} was asked to stop and is still {found.state} after {format_duration(limit)}",
                hint=f"it is killed when its grace period is over; see: runctl status {run.name}",
            )
        time.sleep(0.1)
        found = status.observe(run)
    return found


def _stop_elsewhere(run: record.RunDir, found: status.RunStatus, timeout_seconds: float | None) -> status.RunStatus:
    """The same for a run on a provider's machines: a word to its container, then the service's own interruption, then
    the end of everything; each is given its time. What waits for a machine is ended at once."""
    backend = backends.remote(status.backend_of(run))
    config = configs.from_effective(record.content(run)["config"])
    limit = timeout_seconds if timeout_seconds is not None else backends.grace(config) + _MARGIN_SECONDS
    steps = [("now", limit)] if found.state == "queued" else [("gently", limit), ("cancel", limit), ("now", limit)]
    for how, seconds in steps:
        backend.request_stop(run, how)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = status.observe(run)
            if found.over:
                return found
            time.sleep(_LOOK_SECONDS)
    raise WaitTimeout(
        f"{run.name} was asked to stop, and its app was ended; its provider still says that it is {found.state}",
        hint=f"look again: runctl status {run.name}; or: runctl reconcile",
    )


def _ask(backend: backends.Backend, run: record.RunDir, found: status.RunStatus) -> bool:
    records = status.load(run)
    supervisor, _ = status.identities(records)
    if supervisor is None:
        return False
    if evidence.life(supervisor) is evidence.Life.ELSEWHERE:
        raise UsageError(f"{run.name} runs on {found.host or 'another machine'}", hint="run `runctl stop` there")
    with suppress(OSError, KeyError):  # on a full disk the signal alone must do
        entry = {"schema_version": record.SCHEMA_VERSION, "time": time.time(), "by": getpass.getuser()}
        record.write_json(run.attempt(found.attempt).asked, entry)
    try:
        return backend.stop(supervisor)
    except PermissionError:
        run.attempt(found.attempt).asked.unlink(missing_ok=True)
        raise RefusedError(f"{run.name} belongs to another user of this machine", hint="ask them to stop it") from None
