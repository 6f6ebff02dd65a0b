"""`runctl stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import Json, complete_run

if TYPE_CHECKING:
    from runctl.record import RunDir
    from runctl.status import RunStatus


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="One run or more.", autocompletion=complete_run)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Stop a run: it finishes its step, saves a checkpoint and ends. It can be resumed.

    Asks first on a terminal. What has not ended after a grace period of 60 s is killed. Several runs are stopped at the
    same time.

    \b
    Examples:
      runctl stop big-2
      runctl stop big-2 --yes --json
      runctl stop $(runctl ls -q --name 'big-*' --state running)
    """
    import sys

    from runctl import project, record, status, view
    from runctl import stop as stops
    from runctl.errors import Exit

    root = project.root()
    targets = [record.find(root, name) for name in dict.fromkeys(runs)]
    found: dict[str, RunStatus] = {}
    going: list[RunDir] = []
    for target in targets:
        found[target.name] = before = status.observe(target)
        if before.over and not before.leftover:
            because = f": {before.reason}" if before.reason else ""
            view.err().print(f"{target.name} has ended already: {before.state}{because}", markup=False)
        else:
            going.append(target)
            view.err().print(stops.at_stake(before), markup=False)
    asks = going and sys.stdin.isatty() and sys.stderr.isatty() and not yes
    if asks and not typer.confirm("stop it?" if len(going) == 1 else f"stop these {len(going)}?", err=True):
        view.say("left running")
        raise typer.Exit(Exit.OK)
    found |= _stop(going)
    if as_json:
        rows = [{"run": name, "status": entry.to_json()} for name, entry in found.items()]
        view.print_json(rows[0] if len(rows) == 1 else {"runs": rows})


def _stop(going: list[RunDir]) -> dict[str, RunStatus]:
    """Stop all of them at once; what cannot be stopped is told, and raised once the others have ended."""
    from concurrent.futures import ThreadPoolExecutor

    from runctl import stop as stops
    from runctl import view
    from runctl.errors import RunctlError

    found, failed = {}, []
    with ThreadPoolExecutor(min(32, len(going) or 1)) as pool:
        asked = [(run, pool.submit(stops.stop, run)) for run in going]
        for run, stopped in asked:
            try:
                found[run.name] = stopped.result()
                view.err().print(stops.outcome(found[run.name]), markup=False)
            except RunctlError as error:
                failed.append(error)
    for earlier in failed[:-1]:
        view.print_error(earlier)
    if failed:
        raise failed[-1]
    return found
