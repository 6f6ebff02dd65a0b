"""`runctl checkpoint`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json, RunName


def command(
    run: RunName,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Until it is on the disk and verified.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Wait no longer, exit 8. Implies --wait.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Have a running run save a checkpoint now, after the step it is in. The run goes on.

    Who asked is on the run's record. With --wait its path is printed, once every file is as its manifest says.

    \b
    Examples:
      runctl checkpoint big-2 --wait
      runctl checkpoint big-2 --timeout 5m --json | jq -r .checkpoint.path
    """
    from runctl import checkpointing, project, record, view
    from runctl.cli._durations import seconds
    from runctl.units import format_bytes

    limit = None if timeout is None else seconds(timeout, "--timeout")
    target = record.find(project.root(), run)
    asked = checkpointing.ask(target, limit)
    at = "" if asked.step is None else f" at step {asked.step:,}"
    if not (wait or limit is not None):
        view.say(f"[name]{run}[/name] was asked for a checkpoint{at}. See: runctl status {run}")
        if as_json:
            view.print_json({"run": run, "asked": asked.to_json(), "checkpoint": None})
        return
    saved = checkpointing.wait(target, asked, limit)
    if as_json:
        view.print_json({"run": run, "asked": asked.to_json(), "checkpoint": saved.to_json()})
        return
    size = "" if saved.bytes is None else f", {format_bytes(saved.bytes)}"
    view.err().print(f"checkpoint at step {saved.step:,}{size}; verified: {saved.verified}", markup=False)
    if saved.path is not None:
        typer.echo(saved.path)
