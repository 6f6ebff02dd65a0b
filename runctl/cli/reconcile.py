"""`runctl reconcile`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json


def command(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="End them without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Find what runs on Modal and no run here accounts for, and end it after asking.

    Apps are known by their tag runctl.run. One of another machine's run is listed too: attach that run instead, and it
    is accounted for. Without a terminal nothing is ended unless --yes is given; exit 1 if any are left.

    \b
    Examples:
      runctl reconcile
      runctl reconcile --yes --json
    """
    import sys

    from runctl import attach, project, view
    from runctl.errors import Exit

    here = project.load()
    found = attach.strays(here)
    for app, run, why in found.found:
        view.err().print(f"{app}  {run}: {why}", markup=False)
    ended: list[str] = []
    if not found.found:
        view.say(f"nothing runs on Modal that is not accounted for; {found.looked} runs looked at")
    elif yes or (
        sys.stdin.isatty()
        and sys.stderr.isatty()
        and typer.confirm(f"end {'it' if len(found.found) == 1 else f'these {len(found.found)}'}?", err=True)
    ):
        for app, _, _ in found.found:
            attach.end(here, app)
            ended.append(app)
            view.say(f"{app} is ended")
    if as_json:
        rows = [{"app": app, "run": run, "why": why, "ended": app in ended} for app, run, why in found.found]
        view.print_json({"strays": rows})
    if len(ended) < len(found.found):
        raise typer.Exit(Exit.FINDINGS)
