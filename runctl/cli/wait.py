"""`runctl wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import Json, complete_run

if TYPE_CHECKING:
    from runctl.wait import Waited


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="One run or more.", autocompletion=complete_run)],
    until: Annotated[
        str, typer.Option("--until", metavar="WHAT", help="finished, checkpoint, or step:N.")
    ] = "finished",
    first: Annotated[bool, typer.Option("--any", help="Until the first of the runs is there, not all.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Give up after so long, exit 8.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until a run has ended: exit 0 if it succeeded, 6 if it failed or was stopped, 7 if a guard killed it.

    With --until step:N or checkpoint: exit 0 as soon as it is there, 6 or 7 if the run ends before that. Of several
    runs the largest exit code counts.

    \b
    Examples:
      runctl wait big-2 && runctl pull big-2 results
      runctl wait big-2 --until step:500 --timeout 10m
      runctl wait big-1 big-2 big-3 --any
    """
    from runctl import project, record, view
    from runctl import wait as waits
    from runctl.cli._durations import seconds

    wanted = waits.goal(until)
    limit = None if timeout is None else seconds(timeout, "--timeout")
    root = project.root()
    several = len(set(runs)) > 1

    def look(one: waits.Waited) -> None:
        state = one.status.state if wanted.kind == "finished" or not one.reached else f"{one.status.state}, {_at(one)}"
        if not as_json:
            typer.echo(f"{one.status.run} {state}" if several else state)
            if one.why:
                view.err().print(f"{one.status.run}: {one.why}" if several else one.why, markup=False)

    done = waits.until([record.find(root, name) for name in dict.fromkeys(runs)], wanted, limit, first=first, look=look)
    code = max(one.code for one in done)
    if as_json:
        rows = [
            {"run": one.status.run, "reached": one.reached, "exit_code": int(one.code), "status": one.status.to_json()}
            for one in done
        ]
        view.print_json({"runs": rows} if several else rows[0])
    raise typer.Exit(code)


def _at(one: Waited) -> str:
    """Where a run was when it had got so far."""
    if one.goal.kind == "checkpoint":
        return f"checkpoint at step {one.status.checkpoint_step or 0:,}"
    return f"step {one.status.step or 0:,}"
