"""`runctl events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runctl.cli.options import RunName

if TYPE_CHECKING:
    from runctl.events import Reader


def command(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    event: Annotated[
        list[str] | None, typer.Option("--event", metavar="NAME", help="Only these: checkpoint,restart. Repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="From then on: 10m (ago), 14:30, 2026-11-21.")
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, metavar="N", help="Of one attempt only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line, as it was written.")] = False,
) -> None:
    """Tell what happened to a run, in all its attempts: starts, checkpoints, guards, restarts, its end.

    \b
    Examples:
      runctl events big-2
      runctl events big-2 -f --event checkpoint,guard_tripped
      runctl events big-2 --since 2h --json | jq -r .event
    """
    from runctl import events, project, record
    from runctl.cli._moments import moment

    found = record.find(project.root(), run)
    names = [name for text in event or [] for name in text.split(",") if name]
    wanted = events.Wanted(names, attempt, None if since is None else moment(since, "--since"))
    reader = events.Reader(found)
    rows = reader.new()
    shown = [row for row in rows if wanted.fits(row)]
    for row in shown:
        _print(row, as_json)
    if follow:
        for row in reader.follow():
            if wanted.fits(row):
                _print(row, as_json)
    _remark(reader, rows, names, nothing=not shown and not follow)


def _print(row: dict[str, Any], as_json: bool) -> None:
    import json
    import sys

    from runctl import events

    typer.echo(json.dumps({"schema_version": 1, **row}) if as_json else events.words(row))
    sys.stdout.flush()


def _remark(reader: Reader, rows: list[dict[str, Any]], names: list[str], *, nothing: bool) -> None:
    """What a reader should know besides: damaged lines, and names that no event bears."""
    from runctl import view

    known = sorted({str(row.get("event")) for row in rows})
    if nothing:
        some = f"; it has {', '.join(known)}" if rows and names else ""
        words = f"no event is as asked for{some}" if rows else f"nothing has happened yet: {reader.run.events}"
        view.err().print(words, markup=False)
    if reader.damaged:
        lines = "one line" if reader.damaged == 1 else f"{reader.damaged:,} lines"
        view.err().print(f"{lines} of {reader.run.events} cannot be read", style="warn", markup=False)
