"""`runctl stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json, RunName


def command(
    run: RunName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Stop a run: it finishes its step, saves a checkpoint and ends. It can be resumed.

    Asks first on a terminal. What has not ended after a grace period of 60 s is killed.

    \b
    Examples:
      runctl stop big-2
      runctl stop big-2 --yes --json
    """
    import sys

    from runctl import project, record, status, view
    from runctl import stop as stops
    from runctl.errors import Exit

    target = record.find(project.root(), run)
    before = status.observe(target)
    if before.over and not before.leftover:
        because = f": {before.reason}" if before.reason else ""
        view.err().print(f"{run} has ended already: {before.state}{because}", markup=False)
        if as_json:
            view.print_json({"run": run, "status": before.to_json()})
        return
    view.err().print(stops.at_stake(before), markup=False)
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not yes
    if asks and not typer.confirm("stop it?", err=True):
        view.say("left running")
        raise typer.Exit(Exit.OK)
    found = stops.stop(target)
    if as_json:
        view.print_json({"run": run, "status": found.to_json()})
    view.err().print(stops.outcome(found), markup=False)
