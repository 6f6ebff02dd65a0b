"""`runctl resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.launch import Detach, NoWait, WaitForStart
from runctl.cli.options import Json, RunName, Set, complete_config


def command(
    run: RunName,
    detach: Detach = False,
    no_wait: NoWait = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="Go on with this config.", autocompletion=complete_config),
    ] = None,
    settings: Set = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Also where that alters what is learned or spent from here on.")
    ] = False,
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
      runctl resume big-2 --set checkpoint.every=5m --set compute.timeout=8h
      runctl resume big-2 --set training.epochs=6 --accept-changes    6 in total, not 6 more
      runctl resume big-2 --config configs/big-lr.yaml --accept-changes
    """
    from runctl import project, record, resume, view
    from runctl.cli._durations import seconds
    from runctl.cli._follow import start_and_follow

    quiet = seconds(wait_for_start, "--wait-for-start")
    found = record.find(project.root(), run)
    plan = resume.plan(found, force=force, config_path=config, settings=settings or (), accept=accept_changes)
    for note in plan.notes:
        view.err().print(f"note: {note}", style="dim", markup=False)
    if (config or settings) and not plan.changes:
        view.err().print("note: that changes nothing of its config", style="dim", markup=False)
    for change in plan.changes:
        means = f": {change.means}" if change.means else ""
        style = "warn" if change.weight == "accepted" else "dim"
        view.err().print(f"changed {change.words}{means}", style=style, markup=False)
    view.err().print(plan.words, markup=False)
    start_and_follow(lambda: resume.start(plan), quiet, detach=detach, as_json=as_json, no_wait=no_wait)
