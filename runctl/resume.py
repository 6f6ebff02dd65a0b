"""Resume a run: a new attempt of the same run, from its newest whole checkpoint, to the same total."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import backends, code_version, fields, record, status
from runctl import config as configs
from runctl.errors import RefusedError, RunctlError, UsageError, of_place
from runctl.guards.watch import listed
from runctl.launch import uninterrupted, write_start
from runctl.supervisor.summary import checkpoints, damaged, spent_seconds
from runctl.supervisor.supervise import GRACE_SECONDS
from runctl.units import counted, format_usd


@dataclass(frozen=True)
class Plan:
    """A resume that may go ahead. `words` say the totals, `notes` what else differs from the launch."""

    run: record.RunDir
    attempt: int
    checkpoint: dict[str, Any] | None
    words: str
    notes: tuple[str, ...]
    code: dict[str, Any]
    request: backends.Request


def plan(run: record.RunDir, *, force: bool = False) -> Plan:
    """What a resume would do. Raises UsageError for a run that has finished, goes on, or has only damaged
    checkpoints, RefusedError for one whose hours are used up, or whose evidence is gone (unless `force`)."""
    attempts = run.attempts()
    if damage := record.damage(run.run):
        raise UsageError(
            f"{run.name} cannot be resumed: {damage}",
            hint=f"what it saved is still there: runctl pull {run.name} DEST; to train again, launch a new run",
        )
    found = status.observe(run)
    _check_state(run, found, force)
    content = record.read_object(run.run)
    try:
        config = configs.from_effective(content["config"])
    except Exception as error:
        why = " ".join(str(error).split())
        raise UsageError(
            f"{run.name} cannot be resumed: the config in its run.json is not valid: {why}",
            hint="launch a new run from its config_text",
        ) from None
    used, limit = spent_seconds(run), config.budget.max_hours
    if limit is not None and used >= limit * 3600:
        raise RefusedError(
            f"{run.name} has used {used / 3600:.2f} h of its budget.max_hours of {limit:g}, all attempts together",
            hint="launch a new run with a larger budget",
        )
    for test in (guard["test"] for guard in listed(content) if guard.get("on")):
        most, rate = fields.number(test, "value"), fields.number(test, "usd_per_hour")
        if test.get("kind") == "cost" and most is not None and rate is not None and used / 3600 * rate >= most:
            raise RefusedError(
                f"{run.name} has spent its budget.max_cost_usd of {format_usd(most)}, all attempts together",
                hint="launch a new run with a larger budget",
            )
    whole = checkpoints(run)
    newest = whole[-1] if whole else None
    if newest is None and config.task != "command" and (lost := damaged(run)):
        raise UsageError(
            f"{run.name} cannot be resumed: no whole checkpoint is left in {run.checkpoints}, only {', '.join(lost)}",
            hint="restore one from a copy, delete the damaged ones to start at step 0 on purpose, or launch a new run",
        )
    number = attempts[-1].number + 1 if attempts else 1
    project = Path(str(content.get("project") or Path.cwd()))
    code = code_version.read(project).to_json()
    request = backends.load(config.compute.backend).plan(config, run.path, number, project, GRACE_SECONDS)
    notes = _differences(content.get("code"), code)
    return Plan(run, number, newest, _words(run.name, config, found, newest, number), notes, code, request)


def start(plan: Plan) -> record.RunDir:
    """Claim the attempt and start its supervisor; raises UsageError if someone else was faster."""
    target = plan.run.attempt(plan.attempt).path
    temporary = target.with_name(f".resume-{os.getpid()}.tmp")
    step = plan.checkpoint["step"] if plan.checkpoint else 0
    saved = {"step": step, "time": plan.checkpoint.get("time")} if plan.checkpoint else None
    with uninterrupted():
        try:
            write_start(temporary, from_step=step, checkpoint=saved, code=plan.code)
            os.rename(temporary, target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if target.exists():
                hint = f"see: runctl status {plan.run.name}"
                raise UsageError(f"{plan.run.name} is being resumed already", hint=hint) from None
            if known := of_place(error, plan.run.path):
                raise known from None
            raise RunctlError(f"cannot write into {plan.run.path}: {error.strerror or error}") from None
        try:
            backends.load(plan.request.backend).submit(plan.request)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    return plan.run


def _check_state(run: record.RunDir, found: status.RunStatus, force: bool) -> None:
    name = run.name
    if found.state == "succeeded":
        done = f" at step {found.step:,} of {found.total_steps:,}" if found.step and found.total_steps else ""
        raise UsageError(
            f"{name} has finished{done}: there is nothing to resume",
            hint="totals are fixed at launch; to train longer, launch a new run with more steps or epochs",
        )
    if found.active:
        raise UsageError(f"{name} is {found.state}", hint=f"follow it with: runctl status {name} --watch")
    if found.leftover:
        raise UsageError(f"what a lost supervisor left of {name} is still being ended", hint="try again in a moment")
    if found.state == "lost" and not force:
        raise RefusedError(
            f"{name} is lost: {found.reason}; it may still be running there",
            hint=f"end it there first, or if that machine is gone: runctl resume {name} --force",
        )


def _words(
    name: str, config: configs.RunConfig, found: status.RunStatus, newest: dict[str, Any] | None, number: int
) -> str:
    if config.task == "command":
        return f"resuming {name} as attempt {number}: where it goes on is up to its program (RUNCTL_ATTEMPT={number})"
    if newest is None:
        return f"resuming {name} as attempt {number}: no checkpoint was written, so it starts at step 0"
    step, total = newest["step"], found.total_steps
    totals = (
        f"step {step:,} done" if total is None else f"step {step:,} of {total:,} done, {max(0, total - step):,} to go"
    )
    again = f" ({counted(found.step - step, 'step')} again)" if found.step and found.step > step else ""
    return f"resuming {name} as attempt {number} from {newest['path']}: {totals}{again}"


def _differences(before: Any, now: dict[str, Any]) -> tuple[str, ...]:
    old = before.get("commit") if isinstance(before, dict) else None
    if old and now["commit"] and old != now["commit"]:
        return (f"the code is at commit {now['commit'][:10]}; the run was launched at {old[:10]}",)
    return ("the code has changes that are not committed",) if now["dirty"] else ()
