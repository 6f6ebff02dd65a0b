"""`runctl prune`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json


def command(
    runs: Annotated[
        list[str] | None, typer.Option("--runs", metavar="PATTERN", help="Only runs so named: 'old-*'. Repeatable.")
    ] = None,
    older: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Only runs that ended so long ago: 30d. Also failed ones as a whole."
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, metavar="N", help="The newest checkpoints of each run.")] = 2,
    every: Annotated[
        int | None, typer.Option("--keep-every", min=1, metavar="STEPS", help="And those whose step it divides.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete it. Without it, nothing is touched.")] = False,
    as_json: Json = False,
) -> None:
    """Make room: show which checkpoints, datasets and dead runs may go, what that frees, and why. --yes deletes them.

    A run that is not over is left alone; the newest and the best checkpoint of every run stay. With --older-than, a run
    that ended otherwise than well and has no checkpoint goes as a whole.

    \b
    Examples:
      runctl prune                                    what would go
      runctl prune --runs 'sweep-*' --keep 1 --yes
      runctl prune --older-than 30d --json | jq .bytes
    """
    from runctl import project, prune, view
    from runctl.cli._durations import seconds
    from runctl.errors import Exit

    age = None if older is None else seconds(older, "--older-than")
    policy = prune.Policy(keep, every, age, tuple(runs or ()))
    plan = prune.plan(project.root(), policy)
    done = prune.carry_out(plan, policy) if yes else None
    if as_json:
        items = plan.items if done is None else done.items
        view.print_json(
            {
                "deleted": yes,
                "root": str(plan.root),
                "bytes": plan.bytes if done is None else done.bytes,
                "items": [item.to_json(plan.root) for item in items],
                "left": [{**item.to_json(plan.root), "because": why} for item, why in (done.left if done else ())],
                "kept": [{"run": one.run, "why": one.why} for one in plan.kept],
            }
        )
    else:
        from runctl.view import prune as views

        views.show(plan, done)
    if done is not None and done.left:
        raise typer.Exit(Exit.FINDINGS)
