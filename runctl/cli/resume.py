"""`runctl resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.launch import Detach, NoWait, WaitForStart
from runctl.cli.options import Json, Set, complete_config, complete_run


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run's name.", autocompletion=complete_run)
    ] = None,
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
    lost: Annotated[
        bool, typer.Option("--lost", help="Every run that was lost with its machine or supervisor; asks first.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="With --lost: only those lost since: 2h (ago), 14:30.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --lost: do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also a run that is lost: its machine is gone for good.")
    ] = False,
    wait_for_start: WaitForStart = "10m",
    as_json: Json = False,
) -> None:
    """Go on with a run that was stopped or has failed, from its newest checkpoint to the same total.

    With --lost, all runs of the project that a reboot or a killed supervisor has ended: each is listed with what of its
    work is lost and what the rest likely costs, and taken up in the background. Without a terminal, only with --yes.

    \b
    Examples:
      runctl resume big-2
      runctl resume big-2 --detach
      runctl resume big-2 --set checkpoint.every=5m --set compute.timeout=8h
      runctl resume big-2 --set training.epochs=6 --accept-changes    6 in total, not 6 more
      runctl resume big-2 --config configs/big-lr.yaml --accept-changes
      runctl resume --lost                                            after a reboot
      runctl resume --lost --since 1d --yes --json
    """
    from runctl import project, record, resume, view
    from runctl.cli._durations import seconds
    from runctl.cli._follow import start_and_follow
    from runctl.errors import UsageError

    quiet = seconds(wait_for_start, "--wait-for-start")
    if lost:
        from runctl.cli import _lost

        if run is not None or config is not None or settings or accept_changes:
            hint = "leave out RUN and the changes; or narrow it with --since"
            raise UsageError("--lost resumes all runs that are lost, each as it was", hint=hint)
        _lost.take_up(since, quiet, force=force, yes=yes, no_wait=no_wait, as_json=as_json)
        return
    if run is None or since is not None:
        hint = "runctl resume RUN; after a reboot, all that is lost: runctl resume --lost"
        raise UsageError("--since goes with --lost" if run is not None else "no run is named", hint=hint)
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
