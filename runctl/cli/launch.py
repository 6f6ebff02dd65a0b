"""`runctl launch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import ConfigPath, Gpu, Json, Set, overrides

if TYPE_CHECKING:
    from runctl.launch import Allowed, Plan
    from runctl.record import RunDir

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when step 1 has run; print the run's name alone.")]
ProbeFirst = Annotated[
    bool, typer.Option("--probe-first", help="Run a minute of real steps first; launch only if they are sound.")
]
WaitForStart = Annotated[
    str, typer.Option("--wait-for-start", metavar="DURATION", help="Give up after so long without any sign of life.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return as soon as it is on its way, before step 1; print the run's name.")
]


def command(
    config: ConfigPath,
    name: Annotated[
        str | None, typer.Option("--name", help="The run's name; by default the config's, numbered.")
    ] = None,
    detach: Detach = False,
    no_wait: NoWait = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be started; start nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before paid compute (local runs never ask).")
    ] = False,
    settings: Set = None,
    gpu: Gpu = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="RULE", help="Launch against a rule; needs --because. Repeatable."),
    ] = None,
    because: Annotated[
        list[str] | None, typer.Option("--because", metavar="TEXT", help="Why; one for each --allow, or one for all.")
    ] = None,
    probe_first: ProbeFirst = False,
    wait_for_start: WaitForStart = "10m",
    as_json: Json = False,
) -> None:
    """Start a run: refuse what preflight refuses, return when its first step has run.

    \b
    Examples:
      runctl launch configs/quickstart.yaml                    follow it; Ctrl-C leaves it running
      runctl launch configs/big.yaml --detach                  print the run's name and return after step 1
      runctl launch configs/big.yaml --dry-run --json          what would be started
      runctl launch configs/big.yaml --probe-first --detach    a minute of real steps first
      runctl launch configs/big.yaml --set training.lr=1e-4 --name lr-1e-4
      runctl launch configs/big.yaml --allow CK101 --because "ten minutes, cheaper to repeat"
    """
    from runctl import launch, view
    from runctl.cli._durations import seconds
    from runctl.cli._follow import start_and_follow
    from runctl.view import report, runs

    quiet = seconds(wait_for_start, "--wait-for-start")
    plan = launch.plan(
        config, overrides(settings, gpu), name=name, allowed=_allowed(allow, because), detached=detach or no_wait
    )
    report.compact(plan.findings)
    for note in plan.notes:
        view.err().print(f"note: {note}", style="dim", markup=False)
    if dry_run:
        view.print_json(plan.to_json()) if as_json else runs.request(plan.to_json())
        return
    if probe_first:
        _probe(config, overrides(settings, gpu))
        plan = launch.plan(config, overrides(settings, gpu), name=name, allowed=_allowed(allow, because))
    start_and_follow(lambda: _start(plan), quiet, detach=detach, as_json=as_json, no_wait=no_wait)


def _start(plan: Plan) -> RunDir:
    """Start it, and say what of its code could not be recorded."""
    from runctl import launch, record, view

    run = launch.start(plan)
    code = record.read_object(run.run).get("code") or {}
    if code.get("commit") and code.get("note"):
        view.err().print(f"note: {code['note']}", style="dim", markup=False)
    return run


def _probe(config: Path, changes: list[str]) -> None:
    """The canary before the run; its report goes to stderr. The plan is made again, with what it measured."""
    from runctl import probe
    from runctl.view import probe as probe_view

    found = probe_view.run(config, changes, probe.SECONDS)
    probe_view.report(found, config, changes, prose=True)
    if not found.ok:
        failed = [check["name"] for check in found.checks if not check["ok"]]
        raise probe.ProbeFailed(f"nothing was launched: the probe found {', '.join(failed)} wrong")


def _allowed(allow: list[str] | None, because: list[str] | None) -> list[Allowed]:
    from runctl.errors import UsageError
    from runctl.launch import Allowed

    rules, reasons = allow or [], [reason for reason in because or [] if reason.strip()]
    if bool(rules) != bool(reasons) or (len(reasons) > 1 and len(reasons) != len(rules)):
        raise UsageError(
            f"{len(rules)} --allow and {len(reasons)} --because do not go together",
            hint='write: --allow RULE --because "why it is right here"',
        )
    return [Allowed(rule, reasons[index if len(reasons) > 1 else 0]) for index, rule in enumerate(rules)]
