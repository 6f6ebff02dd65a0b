"""Resume a run: a new attempt of the same run, from its newest whole checkpoint, to the same total.

A run may go on with a changed config where that is still the same run: what alters what is learned or spent has to be
accepted, and is kept in the attempt's start.json, from which it is carried on (`record.content`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import backends, changes, code_version, fields, preflight, purse, record, spending, standing, status
from runctl import config as configs
from runctl import project as projects
from runctl.changes import Change
from runctl.errors import Problem, RefusedError, RunctlError, UsageError, of_place
from runctl.guards.watch import listed
from runctl.launch import Refused, plain
from runctl.starting import uninterrupted, write_start
from runctl.supervisor.summary import checkpoints, damaged, spent_seconds
from runctl.units import counted, format_usd


@dataclass(frozen=True)
class Plan:
    """A resume that may go ahead. `words` say the totals, `notes` what else differs from the launch, `changes` what of
    the config; `held` is what start.json keeps of them."""

    run: record.RunDir
    attempt: int
    checkpoint: dict[str, Any] | None
    words: str
    notes: tuple[str, ...]
    changes: tuple[Change, ...]
    held: dict[str, Any]
    code: dict[str, Any]
    request: backends.Request
    claim: purse.Claim


def plan(
    run: record.RunDir,
    *,
    force: bool = False,
    config_path: Path | None = None,
    settings: Sequence[str] = (),
    accept: bool = False,
) -> Plan:
    """What a resume would do. Raises UsageError for a run that has finished, goes on, or has only damaged
    checkpoints, and for a config of another run; RefusedError for one whose hours are used up, whose evidence is gone
    (unless `force`), or whose config would change what is learned (unless `accept`); Refused as a launch does."""
    if damage := record.damage(run.run):
        raise UsageError(
            f"{run.name} cannot be resumed: {damage}",
            hint=f"what it saved is still there: runctl pull {run.name} DEST; to train again, launch a new run",
        )
    if run.remote.exists():  # its attempts are made elsewhere; which number is free is decided there
        status.observe(run)
    attempts = run.attempts()  # before the look: of two resumes at once, one number
    found = status.observe(run)
    _check_life(run, found, force)
    content = record.content(run)
    before = _config(run, content)
    whole = checkpoints(run)
    newest = whole[-1] if whole else None
    stands = standing.read(run, newest)
    project = Path(str(content.get("project") or Path.cwd()))
    config, held, changed = before, record.carried(run), tuple[Change, ...]()
    if config_path is not None or settings:
        config = changes.wanted(content["config"], config_path, settings, run.name)
        changed = changes.between(content["config"], configs.to_effective(config), stands)
        changed = tuple(
            changes.moved(one, project, stands.dataset) if one.key == "data.encoded" else one for one in changed
        )
        _refuse_another(run, changed, config_path)
    _check_done(run, found, before, config, stands)
    if any(change.weight == "accepted" for change in changed) and not accept:
        raise _unaccepted(run.name, changed)
    if changed:
        content |= _judged(run, content, config)
        held |= _held(held, changed, content)
    _check_budget(run, config, content)
    planned = stands.plan(config.training)
    total = planned.total_steps if planned else config.training.steps or found.total_steps
    claim = purse.of_resume(run, content, newest["step"] if newest else None, total)
    if newest is None and (lost := damaged(run)):
        where = "" if config.task == "command" else f" in {run.checkpoints}"
        raise UsageError(
            f"{run.name} cannot be resumed: no whole checkpoint is left{where}, only {', '.join(lost)}",
            hint="restore one from a copy, delete the damaged ones to start at step 0 on purpose, or launch a new run",
        )
    number = attempts[-1].number + 1 if attempts else 1
    code = code_version.read(project).to_json()
    request = backends.load(config.compute.backend).plan(config, run.path, number, project, backends.grace(config))
    notes = (*_differences(content.get("code"), code), *request.notes, *claim.notes)
    words = _words(run.name, config, found, newest, stands, number)
    return Plan(run, number, newest, words, notes, changed, held, code, request, claim)


def start(plan: Plan) -> record.RunDir:
    """Claim the attempt and start its supervisor; raises UsageError if someone else was faster."""
    target = plan.run.attempt(plan.attempt).path
    temporary = target.with_name(f".resume-{os.getpid()}.tmp")
    step = plan.checkpoint["step"] if plan.checkpoint else 0
    saved = {"step": step, "time": plan.checkpoint.get("time")} if plan.checkpoint else None
    with uninterrupted():
        try:
            with plan.claim.held():
                write_start(temporary, from_step=step, checkpoint=saved, code=plan.code, more=plan.held)
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


def _check_life(run: record.RunDir, found: status.RunStatus, force: bool) -> None:
    name = run.name
    if found.active:
        raise UsageError(f"{name} is {found.state}", hint=f"follow it with: runctl status {name} --watch")
    if found.leftover:
        raise UsageError(f"what a lost supervisor left of {name} is still being ended", hint="try again in a moment")
    if found.state == "lost" and not force:
        raise RefusedError(
            f"{name} is lost: {found.reason}; it may still be running there",
            hint=f"end it there first, or if that machine is gone: runctl resume {name} --force",
        )


def _config(run: record.RunDir, content: dict[str, Any]) -> configs.RunConfig:
    try:
        return configs.from_effective(content["config"])
    except Exception as error:
        why = " ".join(str(error).split())
        raise UsageError(
            f"{run.name} cannot be resumed: the config in its run.json is not valid: {why}",
            hint="launch a new run from its config_text",
        ) from None


def _check_done(
    run: record.RunDir,
    found: status.RunStatus,
    before: configs.RunConfig,
    config: configs.RunConfig,
    stands: standing.Standing,
) -> None:
    """Raise UsageError where nothing is left to do: a total is what the run has, not what is added to it."""
    name, old, new = run.name, before.training, config.training
    same = (old.epochs, old.steps) == (new.epochs, new.steps)
    plan = stands.plan(new)
    total = new.steps if new.steps is not None else plan.total_steps if plan else None
    if found.state == "succeeded" and (same or config.task == "command"):
        done = f" at step {found.step:,} of {found.total_steps:,}" if found.step and found.total_steps else ""
        epochs = new.steps is None and plan is not None
        said = f"{standing.words(new, stands, None).partition(';')[0]}; " if epochs else ""
        hint = _longer(name, new, config.task == "command")
        raise UsageError(f"{name} has finished{done}: {said}there is nothing to resume", hint=hint)
    if not same and config.task != "command" and total is not None and total <= stands.step:
        said = standing.words(new, stands, total)
        raise UsageError(f"{name} has nothing to do with that total: {said}", hint=_longer(name, new))


def _longer(name: str, training: Any, command: bool = False) -> str:
    """How a run is made longer."""
    if command:
        return "launch a new run of its config"
    key, now = ("steps", training.steps) if training.steps is not None else ("epochs", training.epochs or 1.0)
    more = f"runctl resume {name} --set training.{key}={2 * now:g} --accept-changes"
    return f"{key} are the run's total, not an addition; to train as long again: {more}"


def _refuse_another(run: record.RunDir, changed: tuple[Change, ...], path: Path | None) -> None:
    """Raise UsageError with both values of every key that would make it another run."""
    refused = [change for change in changed if change.weight == "refused"]
    if not refused:
        return
    there = f"in {path}" if path is not None else "now"
    values = [f"{one.key} is {changes.shown(one.old)} in the run, {changes.shown(one.new)} {there}" for one in refused]
    reasons = dict.fromkeys(one.means for one in refused)
    raise UsageError(
        f"{run.name} cannot go on with that config: {'; '.join(values)}",
        hint=f"launch a new run with it: {'; '.join(reasons)}",
    )


def _unaccepted(name: str, changed: tuple[Change, ...]) -> RefusedError:
    lines = [f"  {change.words}: {change.means}" for change in changed if change.weight == "accepted"]
    said = f"{counted(len(lines), 'change')} of its config would alter what {name} learns or spends from here on:"
    return RefusedError("\n".join([said, *lines]), hint="if that is meant, repeat the command with --accept-changes")


def _judged(run: record.RunDir, content: dict[str, Any], config: configs.RunConfig) -> dict[str, Any]:
    """The changed config as run.json holds one, after preflight has judged it: what it says of the old one as well is
    no reason to refuse, nor what was allowed at launch."""
    project = projects.load(Path(str(content.get("project") or Path.cwd())) / projects.FILE)
    effective = configs.to_effective(config)
    reports = []
    for data in (content["config"], effective):
        own = changes.own(data, run.name)
        reports.append(preflight.check(*preflight.gather(own.file, preflight.Options(adapter="native"), project, own)))
    known = {finding.rule for finding in reports[0].errors}
    allowed = {entry.get("rule") for entry in content.get("allowed") or [] if isinstance(entry, dict)}
    new = [one for one in reports[1].errors if one.rule not in known | allowed]
    if new:
        refused = Refused([Problem(f.message, None, None, None, f.fix, f.rule) for f in new])
        refused.hint = "as a launch would refuse it; launch a new run with --allow, if it is right here"
        raise refused
    command = {"command": list(config.command.argv)} if config.task == "command" and config.command else {}
    guards = [*reports[1].facts.need("guards.all")]
    estimate = plain(reports[1].estimates)  # for the purse; the account keeps that of the launch
    return {"config": effective, "digest": configs.digest(config), "guards": guards, "estimate": estimate, **command}


def _held(held: dict[str, Any], changed: tuple[Change, ...], content: dict[str, Any]) -> dict[str, Any]:
    """What start.json keeps: the config from here on, what changed now, and which keys ever did."""
    kept = {key: content[key] for key in record.HELD if key in content}
    keys = dict.fromkeys([*(held.get("accepted") or []), *(change.key for change in changed)])
    return kept | {"accepted": list(keys), "changes": [change.to_json() for change in changed], "changed_by": "resume"}


def _check_budget(run: record.RunDir, config: configs.RunConfig, content: dict[str, Any]) -> None:
    used, limit = spent_seconds(run), config.budget.max_hours
    raised = "raise it: runctl resume {} --set {} --accept-changes; or launch a new run"
    if limit is not None and used >= limit * 3600:
        raise RefusedError(
            f"{run.name} has used {used / 3600:.2f} h of its budget.max_hours of {limit:g}, all attempts together",
            hint=raised.format(run.name, f"budget.max_hours={2 * limit:g}"),
        )
    for test in (guard["test"] for guard in listed(content) if guard.get("on")):
        most, rate = fields.number(test, "value"), fields.number(test, "usd_per_hour")
        if test.get("kind") != "cost" or most is None or rate is None:
            continue
        if used / 3600 * rate + spending.dearer_usd(run, rate) >= most:
            raise RefusedError(
                f"{run.name} has spent its budget.max_cost_usd of {format_usd(most)}, all attempts together",
                hint=raised.format(run.name, f"budget.max_cost_usd={2 * most:g}"),
            )


def _words(
    name: str,
    config: configs.RunConfig,
    found: status.RunStatus,
    newest: dict[str, Any] | None,
    stands: standing.Standing,
    number: int,
) -> str:
    if config.task == "command":
        said = f"where it goes on is up to its program (RUNCTL_ATTEMPT={number})"
        if newest is not None:
            there = "its arguments name" if config.command and config.command.when_resuming else "RUNCTL_RESUME names"
            said = f"{there} {newest['path']}, of step {newest['step']:,}"
        return f"resuming {name} as attempt {number}: {said}"
    if newest is None:
        return f"resuming {name} as attempt {number}: no checkpoint was written, so it starts at step 0"
    step, plan = newest["step"], stands.plan(config.training)
    totals = standing.words(config.training, stands, plan.total_steps if plan else found.total_steps)
    again = f" ({counted(found.step - step, 'step')} again)" if found.step and found.step > step else ""
    return f"resuming {name} as attempt {number} from {newest['path']}: {totals}{again}"


def _differences(before: Any, now: dict[str, Any]) -> tuple[str, ...]:
    old = before.get("commit") if isinstance(before, dict) else None
    if old and now["commit"] and old != now["commit"]:
        return (f"the code is at commit {now['commit'][:10]}; the run was launched at {old[:10]}",)
    return ("the code has changes that are not committed",) if now["dirty"] else ()
