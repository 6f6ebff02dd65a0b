"""Launch a run: judge the config, claim a name, write the record, start the supervisor, see step 1.

Why the folder is made under a temporary name and renamed: a rename is atomic and refuses a name that is taken, so
two launches at once get two names, and a run's folder never exists without its whole record.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import __version__, backends, code_version, logs, preflight, purse, record, rules, status
from runctl import config as configs
from runctl import project as projects
from runctl.errors import ConfigError, Exit, Problem, RefusedError, RunFailed, UsageError, WaitTimeout, of_place
from runctl.facts import Facts, Finding
from runctl.gathering import carded
from runctl.light import asdict, dataclass, is_dataclass, replace
from runctl.masking import known as secrets_of
from runctl.masking import library, spans
from runctl.notices import targets
from runctl.starting import uninterrupted, write_start
from runctl.units import format_duration

_LOOK_SECONDS = 0.1
_LOG_LINES = 15


@dataclass(frozen=True)
class Allowed:
    """A rule that this launch goes against, and why; recorded in the run."""

    rule: str
    because: str


AGREED = ("EX102", "EX103")  # where the policy makes them errors: who launches cannot sign for the others


class Refused(ConfigError):
    """Preflight has errors that nobody allowed; exit 4 where what is missing is an agreement."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        if any(problem.rule in AGREED for problem in problems):
            self.exit_code = Exit.REFUSED
            self.hint = "policy.require_card in runctl.yaml: what such a run is for is agreed on before it starts"
            return
        rule = next((problem.rule for problem in problems if problem.rule not in preflight.UNWAIVABLE), None)
        if rule:
            self.hint = f'to launch all the same: --allow {rule} --because "the reason, kept with the run"'


@dataclass(frozen=True)
class Plan:
    """A launch that may go ahead. `name` is None where the config's own name is numbered if it is taken; `findings`
    are the warnings and notes of preflight."""

    loaded: configs.LoadedConfig
    project: Path
    name: str | None
    overrides: tuple[str, ...]
    request: backends.Request
    allowed: tuple[Allowed, ...]
    notes: tuple[str, ...]
    counts: dict[str, int]
    findings: tuple[Finding, ...]
    estimate: Any
    guards: tuple[dict[str, Any], ...] = ()
    card: dict[str, Any] | None = None
    notices: tuple[targets.Target, ...] = ()
    shared: bool = False
    price: dict[str, Any] | None = None
    money: purse.Purse | None = None
    likely_usd: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "request": self.request.to_json(),
            "digest": configs.digest(self.loaded.config),
            "allowed": [asdict(entry) for entry in self.allowed],
            "preflight": {"counts": self.counts, "findings": [finding.to_json() for finding in self.findings]},
            "estimate": self.estimate,
            "guards": list(self.guards),
            "card": self.card and {key: self.card[key] for key in ("path", "digest", "refusal")},
            "notices": [one.to_json() for one in self.notices],
            "purse": None if self.money is None else {**self.money.to_json(), "run_usd": self.likely_usd},
            "notes": list(self.notes),
        }


def plan(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    allowed: Sequence[Allowed] = (),
    grace_seconds: float | None = None,
    detached: bool | None = None,
) -> Plan:
    """Judge a config and say what would be started. Nothing is written. `detached`: whether nobody will follow it.

    Raises UsageError (name, file, backend), ConfigError (an invalid config), `Refused` (findings not allowed) and
    ProviderError (a backend that cannot launch).
    """
    project = projects.load(path)
    if name is not None and (record.runs_root(project.root) / record.check_name(name)).exists():
        raise _taken(name)
    for entry in allowed:
        if rules.find(entry.rule).id in preflight.UNWAIVABLE:
            raise _unallowable(entry.rule.upper())
    loaded = configs.load(path, overrides)
    config = loaded.config if name is None else loaded.config.model_copy(update={"name": name})
    loaded = replace(loaded, config=config)
    backend = backends.load(config.compute.backend)
    options = preflight.Options(overrides, adapter="native", launching=True, detached=detached)
    report = preflight.preflight(path, options, project)
    wanted = {entry.rule.upper(): entry for entry in allowed}
    blocking = [finding for finding in report.errors if finding.rule not in wanted or finding.rule in AGREED]
    if blocking and all(finding.rule == purse.RULE for finding in blocking):
        raise RefusedError(blocking[0].message, hint=blocking[0].fix)
    if blocking:
        raise Refused([Problem(f.message, f.file, f.line, f.column, f.fix, f.rule) for f in blocking])
    found = {finding.rule for finding in report.errors}
    idle = [rule for rule in wanted if rule not in found]
    run_dir = record.runs_root(project.root) / (name or _free_name(project.root, config.name))
    request = backend.plan(
        config, run_dir, 1, project.root, backends.grace(config) if grace_seconds is None else grace_seconds
    )
    money, price, cost = report.facts.get("purse"), report.facts.get("compute.price"), report.facts.get("estimate.cost")
    likely = None if cost is None else cost.likely
    return Plan(
        loaded=loaded,
        project=project.root,
        name=name,
        overrides=tuple(overrides),
        request=request,
        allowed=tuple(Allowed(rule, entry.because) for rule, entry in wanted.items() if rule in found),
        notes=(
            *loaded.notes,
            *(f"{finding.where()}: {finding.message}" for finding in preflight.of_project(project).errors),
            *request.notes,
            *targets.missing(project.notices),
            *purse.notes(money, likely),
            *(f"--allow {rule}: nothing to allow, not recorded" for rule in idle),
        ),
        counts=report.counts,
        findings=tuple(finding for finding in report.findings if finding.severity != "error"),
        estimate=plain(report.estimates),
        guards=tuple(report.facts.need("guards.all")),
        card=_card(report.facts),
        notices=tuple(project.notices),
        shared=project.shared,
        price={"usd_per_hour": None, "basis": report.facts.why("compute.price")}
        if price is None
        else {"usd_per_hour": price.usd, "basis": price.basis},
        money=money,
        likely_usd=likely,
    )


def _card(facts: Facts) -> dict[str, Any] | None:
    """The run card that the run goes by: its path, the digest of what was agreed, and why it was not, if so; the text
    that it will be judged by, and who had signed by now."""
    read = carded.of(facts)
    if read is None or read.problems:
        return None
    return {
        "path": read.named,
        "digest": read.agreed.digest,
        "refusal": read.refusal,
        "text": read.agreed.text,
        "signatures": [{"by": one.by, "at": one.at, "digest": one.digest} for one in read.card.contract.signatures],
    }


def start(plan: Plan) -> record.RunDir:
    """Claim the name, write the record, start the supervisor. Ctrl-C waits until the run is whole: afterwards
    either everything is there and runs, or nothing is. Raises UsageError if the name was taken meanwhile, RefusedError
    if the money was, PlaceError where the disk is full or not to be written to."""
    code = code_version.read(plan.project)
    total = None if plan.money is None else plan.money.total
    with uninterrupted():
        with purse.claiming(plan.project, total, plan.likely_usd, "the run"):
            run = _claim(plan, code)
        backend = backends.load(plan.request.backend)
        try:
            backend.submit(backend.plan(plan.loaded.config, run.path, 1, plan.project, plan.request.grace_seconds))
        except BaseException as error:
            _discard(run.path)
            if isinstance(error, OSError) and (known := of_place(error, run.path)):
                raise known from None
            raise
    return run


def await_start(
    run: record.RunDir, quiet_seconds: float, look: Callable[[status.RunStatus], None] = lambda found: None
) -> status.RunStatus:
    """Wait until the newest attempt has done its first step, or has ended well.

    Loading may take long: the wait is only over when nothing alive was seen for `quiet_seconds`. Raises RunFailed
    with the trainer's own error and its last log lines, or WaitTimeout; the latter leaves the run as it is. Only a
    silence that was waited through counts: the clock may jump.
    """
    last, since = 0.0, time.monotonic()
    while True:
        found = status.observe(run)
        look(found)
        if found.state == "succeeded" or (found.first_step and found.active):
            return found
        if found.over:
            raise failure(run, found)
        sign = _touched(run.attempt(found.attempt))
        if sign != last:
            last, since = sign, time.monotonic()
        if (silent := time.monotonic() - since) > quiet_seconds:
            if found.state == "queued" and run.remote.exists():
                raise WaitTimeout(
                    f"{run.name} is {found.reason}; it starts by itself",
                    hint=f"wait for it: runctl wait {run.name} --until step:1; end it: runctl stop {run.name}",
                    run=run.name,
                )
            raise WaitTimeout(
                f"{run.name} has given no sign of life for {format_duration(silent)} and no step has run",
                hint=f"look at: runctl logs {run.name}; end it with: runctl stop {run.name}",
                run=run.name,
            )
        time.sleep(_LOOK_SECONDS)


def failure(run: record.RunDir, found: status.RunStatus) -> RunFailed:
    """The error for a run that ended otherwise than well: its reason, hint and the last lines of its log."""
    files = run.attempt(found.attempt)
    result = record.read_json(files.result)
    error = result.get("error") if isinstance(result, dict) else None
    hint = error.get("hint") if isinstance(error, dict) else None
    lines = [f"  | {line}" for line in logs.last_lines(files.log, _LOG_LINES)]
    tail = "\n".join(["", f"last lines of {files.log}:", *lines]) if lines else ""
    step = f" at step {found.step:,}" if found.step else ""
    return RunFailed(
        f"{run.name} {found.state}{step}: {found.reason}{tail}",
        hint=hint if isinstance(hint, str) else None,
        run=run.name,
    )


def _claim(plan: Plan, code: code_version.CodeVersion) -> record.RunDir:
    root = record.runs_root(plan.project)
    made = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if known := of_place(error, root):
            raise known from None
        hint = "runs are kept there: move what stands in its place, or make the folder writable"
        raise UsageError(f"cannot make the folder {root}: {error.strerror}", hint=hint) from None
    temporary = root / f".launch-{os.getpid()}-{time.time_ns()}.tmp"
    secret = secrets_of.of_environment(addresses=[one.env for one in plan.notices])
    try:
        with record.private(plan.shared):
            write_start(temporary / "attempts" / "1", from_step=0, checkpoint=None, code=None)
            (temporary / "supervisor.log").touch()
            if code.diff:
                record.write_text(temporary / "code.diff", spans.hidden(code.diff, secret, library.detectors))
        while True:
            name = plan.name or _free_name(plan.project, plan.loaded.config.name)
            config = plan.loaded.config.model_copy(update={"name": name})
            with record.private(plan.shared):
                record.write_json(temporary / "run.json", _record(plan, config, name, code, secret))
            try:
                os.rename(temporary, root / name)
                break
            except OSError:
                if not (root / name).exists():
                    raise
                if plan.name:
                    raise _taken(plan.name) from None
        record.sync_folder(root)
        return record.RunDir(root / name)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if made:
            with suppress(OSError):  # another launch has put its run there
                root.rmdir()
        if isinstance(error, OSError) and (known := of_place(error, root)):
            raise known from None
        raise


def _record(
    plan: Plan, config: configs.RunConfig, name: str, code: code_version.CodeVersion, known: secrets_of.Known
) -> dict[str, Any]:
    """run.json. Secrets in its texts are hidden; `config` and `command` are kept as they are, since the run is made of
    them (CF109 refuses a config that holds any)."""
    from runctl.backends import local

    trainer = list(config.command.argv) if config.task == "command" and config.command else local.TRAINER
    return {
        "schema_version": record.SCHEMA_VERSION,
        "name": name,
        "created": time.time(),
        "backend": config.compute.backend,
        "project": str(plan.project),
        "command": trainer,
        "digest": configs.digest(config),
        "overrides": spans.scrubbed(list(plan.overrides), known),
        "allowed": [spans.scrubbed(asdict(entry), known) for entry in plan.allowed],
        "preflight": {"counts": plan.counts},
        "estimate": plan.estimate,
        "guards": list(plan.guards),
        "card": spans.scrubbed(plan.card, known),
        "notices": [one.to_json() for one in plan.notices],
        "price": plan.price,
        "runctl_version": __version__,
        "code": code.to_json(),
        "environment": _environment(),
        "config": configs.to_effective(config),
        "config_file": str(plan.loaded.path.resolve()),
        "config_text": spans.hidden(code_version.without_secrets(plan.loaded.document.text), known, library.detectors),
    }


def _environment() -> dict[str, Any]:
    """Versions and the machine's name; of environment variables nothing is kept."""
    packages = {dist.name: dist.version for dist in importlib.metadata.distributions() if dist.name}
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "packages": dict(sorted(packages.items())),
    }


def _free_name(project: Path, base: str) -> str:
    root, number, name = record.runs_root(project), 1, base
    while (root / name).exists():
        number += 1
        suffix = f"-{number}"
        name = base[: 100 - len(suffix)] + suffix
    return name


def _unallowable(rule: str) -> UsageError:
    if rule == purse.RULE:
        hint = "raise budget.total_usd in runctl.yaml, if the money is there"
        return UsageError(f"{rule} cannot be allowed: it is about the money of the whole project", hint=hint)
    return UsageError(f"{rule} cannot be allowed: such a config cannot run", hint="correct the config")


def _taken(name: str) -> UsageError:
    return UsageError(
        f"the run name '{name}' is taken", hint=f"choose another --name, or continue it: runctl resume {name}"
    )


def _discard(folder: Path) -> None:
    """Take back a run that could not be started: it loses its name first."""
    doomed = folder.with_name(f".discarded-{folder.name}-{time.time_ns()}.tmp")
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _touched(attempt: record.Attempt) -> float:
    """The last time that anything of an attempt was written."""
    times = [0.0]
    for path in (attempt.path, attempt.log, attempt.heartbeat):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times)


def plain(value: Any) -> Any:
    """Any estimate as JSON-able data."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
