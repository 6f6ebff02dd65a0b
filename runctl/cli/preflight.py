"""`runctl preflight`: is this config safe, will it fit, how long, how much?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runctl.cli.options import Gpu, Json, Set, complete_config, overrides

if TYPE_CHECKING:
    from runctl.errors import RunctlError
    from runctl.preflight import Report


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG...", help="YAML files, or folders of them.", autocompletion=complete_config),
    ],
    settings: Set = None,
    gpu: Gpu = None,
    fail_on: Annotated[
        str, typer.Option("--fail-on", metavar="SEVERITY", help="Exit 1 on: error, warning or never.")
    ] = "error",
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="text, json or github (annotations).")
    ] = "text",
    as_json: Json = False,
) -> None:
    """Check configs before a cent is spent: every rule, the estimates, and what could not be checked.

    \b
    Exit codes: 0 no errors · 1 errors found (with --fail-on warning: or warnings) · 2 missing or not YAML.

    \b
    Examples:
      runctl preflight configs/quickstart.yaml
      runctl preflight configs/                               every config of a folder
      runctl preflight configs/big.yaml --gpu T4 --set training.batch_size=4096
      runctl preflight configs/*.yaml --json --fail-on warning
    """
    from runctl import preflight, reporting, view
    from runctl.errors import Exit, UsageError
    from runctl.view import report as report_view

    if fail_on not in ("error", "warning", "never"):
        raise UsageError(f"--fail-on is '{fail_on}'; it can be error, warning or never")
    form = "json" if as_json else form
    render = reporting.load(form)
    given, chosen = overrides(settings, gpu), preflight.expand(paths)
    reports: list[Report] = []
    unreadable: list[RunctlError] = []
    for path in chosen:
        try:
            reports.append(preflight.preflight(path, given))
        except UsageError as error:
            unreadable.append(error)
            view.print_error(error)
    if form == "text":
        report_view.report(reports)
    elif text := render(reports, unreadable):
        typer.echo(text)
    if unreadable:
        raise typer.Exit(Exit.USAGE)
    counts = {"error": ("fail",), "warning": ("fail", "warn"), "never": ()}[fail_on]
    if any(report.verdict in counts for report in reports):
        raise typer.Exit(Exit.FINDINGS)
