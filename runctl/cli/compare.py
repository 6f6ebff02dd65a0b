"""`runctl compare`: runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json, complete_run


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more.", autocompletion=complete_run)],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Only this one. Repeatable.")
    ] = None,
    statistic: Annotated[
        str, typer.Option("--statistic", metavar="WHICH", help="last, best, or 'mean of last 5': for all alike.")
    ] = "last",
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text, markdown, csv or json.")] = "text",
    as_json: Json = False,
) -> None:
    """Compare runs: the settings in which they differ, each metric with its noise band, what they cost.

    The first run is the one that the others are held against. What was measured on other data is not compared.

    \b
    Examples:
      runctl compare base wider
      runctl compare base wider --metric val/loss --statistic "mean of last 5"
      runctl compare base wider --format markdown
    """
    from runctl import compare as comparing
    from runctl import project, view
    from runctl.errors import UsageError, did_you_mean
    from runctl.view import compare as compare_view

    form = "json" if as_json else form
    if form not in comparing.FORMATS:
        hint = did_you_mean(form, comparing.FORMATS) or f"it can be {', '.join(comparing.FORMATS)}"
        raise UsageError(f"--format is '{form}'", hint=hint)
    found = comparing.compare(runs, project.root(), metrics=metric or (), statistic=statistic)
    if form == "json":
        view.print_json(found.to_json())
    elif form == "text":
        compare_view.comparison(found)
    else:
        typer.echo(view.writable(comparing.rendered(found, form)).rstrip("\n"))
