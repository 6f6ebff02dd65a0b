"""`runctl why`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json, RunName


def command(
    run: RunName,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, metavar="N", help="The newest by default.")] = None,
    as_json: Json = False,
) -> None:
    """Say why a run failed: the last error in its context, its class, what speaks for it, and what to do.

    \b
    Examples:
      runctl why big-2
      runctl why big-2 --attempt 1
      runctl why big-2 --json | jq -r .failure.kind
    """
    from runctl import project, record, view
    from runctl import why as explanations

    found = explanations.explain(record.find(project.root(), run), attempt)
    if as_json:
        view.print_json(found.to_json())
        return
    from runctl.view import why

    why.show(found)
