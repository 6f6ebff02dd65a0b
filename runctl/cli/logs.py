"""`runctl logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import RunName


def command(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last N lines.")] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, metavar="N", help="The newest by default.")] = None,
    supervisor: Annotated[bool, typer.Option("--supervisor", help="The supervisor's own log.")] = False,
) -> None:
    """Print what a run's program wrote.

    \b
    Examples:
      runctl logs big-2 --tail 50
      runctl logs -f big-2
      runctl logs big-2 --attempt 1
      runctl logs big-2 --supervisor
    """
    import sys

    from runctl import logs, project, record, view

    found = record.find(project.root(), run)
    path = logs.find(found, attempt, supervisor)
    text, position = logs.tail(path, tail)
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
    if follow:
        for chunk in logs.follow(found, path, position):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    elif not text and tail != 0:
        view.say(f"nothing in {path} yet" if path.is_file() else f"no log yet: {path}")
