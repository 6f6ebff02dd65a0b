"""`runctl resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.launch import Detach, WaitForStart
from runctl.cli.options import Json, RunName


def command(
    run: RunName,
    detach: Detach = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also a run that is lost: its machine is gone for good.")
    ] = False,
    wait_for_start: WaitForStart = "10m",
    as_json: Json = False,
) -> None:
    """Go on with a run that was stopped or has failed, from its newest checkpoint to the same total.

    \b
    Examples:
      runctl resume big-2
      runctl resume big-2 --detach
    """
    from runctl import project, record, resume, view
    from runctl.cli._durations import seconds
    from runctl.cli._follow import start_and_follow

    quiet = seconds(wait_for_start, "--wait-for-start")
    plan = resume.plan(record.find(project.root(), run), force=force)
    for note in plan.notes:
        view.err().print(f"note: {note}", style="dim", markup=False)
    view.err().print(plan.words, markup=False)
    start_and_follow(lambda: resume.start(plan), quiet, detach=detach, as_json=as_json)
