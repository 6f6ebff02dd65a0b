"""`runctl launch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import ConfigPath, Gpu, Json, Set, overrides

if TYPE_CHECKING:
    from runctl.launch import Allowed

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when step 1 has run; print the run's name alone.")]
WaitForStart = Annotated[
    str, typer.Option("--wait-for-start", metavar="DURATION", help="Give up after so long without any sign of life.")
]


def command(
    config: ConfigPath,
    name: Annotated[
        str | None, typer.Option("--name", help="The run's name; by default the config's, numbered.")
    ] = None,
    detach: Detach = False,
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
    wait_for_start: WaitForStart = "10m",
    as_json: Json = False,
) -> None:
    """Start a run: refuse what preflight refuses, return when its first step has run.

    \b
    Examples:
      runctl launch configs/quickstart.yaml                    follow it; Ctrl-C leaves it running
      runctl launch configs/big.yaml --detach                  print the run's name and return after step 1
      runctl launch configs/big.yaml --dry-run --json          what would be started
      runctl launch configs/big.yaml --set training.lr=1e-4 --name lr-1e-4
      runctl launch configs/big.yaml --allow CK101 --because "ten minutes, cheaper to repeat"
    """
    from runctl import launch, view
    from runctl.cli._follow import start_and_follow
    from runctl.view import runs

    quiet = _seconds(wait_for_start)
    plan = launch.plan(config, overrides(settings, gpu), name=name, allowed=_allowed(allow, because))
    for note in plan.notes:
        view.err().print(f"note: {note}", style="dim", markup=False)
    if dry_run:
        view.print_json(plan.to_json()) if as_json else runs.request(plan.to_json())
        return
    start_and_follow(lambda: launch.start(plan), quiet, detach=detach, as_json=as_json)


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


def _seconds(text: str) -> float:
    from runctl.errors import UsageError
    from runctl.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--wait-for-start: {error}") from None
