"""`runctl patterns`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.options import Json


def command(
    config: Annotated[Path | None, typer.Argument(help="A config with command.progress.", show_default=False)] = None,
    log: Annotated[Path | None, typer.Option("--log", help="What the program printed; - for standard input.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The log of this run's newest attempt.")
    ] = None,
    pattern: Annotated[list[str] | None, typer.Option("--pattern", "-p", help="Try this one; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Show what runctl would read from a program's output: step, loss and metrics, line by line.

    \b
    Examples:
      runctl patterns train.yaml --log old-output.txt
      runctl patterns --log old-output.txt -p auto
      runctl patterns --log old-output.txt -p 'step {step}/{total_steps} loss {loss}'
      python train.py | head -50 | runctl patterns --log - -p auto
    """
    from runctl import view
    from runctl.output import trial
    from runctl.view import patterns as shown

    found = trial.read(trial.patterns(config, pattern or ()), trial.text(log, run))
    if as_json:
        view.print_json(found.to_json())
    else:
        shown.show(found)
    if not found.rows:
        raise typer.Exit(1)
