"""`runctl wait`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json, RunName


def command(
    run: RunName,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Give up after so long, exit 8.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until a run has ended: exit 0 if it succeeded, 6 if it failed or was stopped, 7 if a guard killed it.

    \b
    Examples:
      runctl wait big-2 && runctl pull big-2 results
      runctl wait big-2 --timeout 8h
    """
    from runctl import project, record, view
    from runctl import wait as waits
    from runctl.cli._durations import seconds

    limit = None if timeout is None else seconds(timeout, "--timeout")
    found = waits.wait(record.find(project.root(), run), limit)
    if as_json:
        view.print_json({"run": run, "status": found.to_json()})
    else:
        typer.echo(found.state)
        if found.reason:
            view.err().print(found.reason, markup=False)
    raise typer.Exit(waits.exit_code(found))
