"""`runctl attach`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|ap-…|fc-…", help="A run's name, or the id of its app or call.")],
    volume: Annotated[
        str | None, typer.Option("--volume", metavar="NAME", help="Its volume; by default modal.volume in runctl.yaml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Know a run that was launched on Modal from another machine: its records are brought here.

    Afterwards status, logs, stop, resume, pull and wait work as if it had been launched here.

    \b
    Examples:
      runctl attach big-2
      runctl attach ap-4XJHnTeXTWZwtMmYmdXnKq
      runctl attach big-2 --volume team
    """
    from runctl import attach, project, status, view

    done = attach.attach(project.load(), run, volume)
    found = status.read(done.run)
    said = "is known here now" if done.new else "was known here already"
    view.say(f"[name]{done.run.name}[/name] {said}: {found.state}" + (f": {found.reason}" if found.reason else ""))
    if as_json:
        data = {"run": done.run.name, "path": str(done.run.path), "new": done.new, "status": found.to_json()}
        view.print_json(data)
    else:
        typer.echo(done.run.name)
