"""`runctl logs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runctl.cli.options import RunName

if TYPE_CHECKING:
    from pathlib import Path

    from runctl.record import RunDir


def command(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last N lines.")] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, metavar="N", help="The newest by default.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Only what the program wrote, byte for byte.")] = False,
    supervisor: Annotated[bool, typer.Option("--supervisor", help="The supervisor's own log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line.")] = False,
) -> None:
    """Print the story of a run's newest attempt: progress, checkpoints, what its program wrote, how it ended.

    \b
    Examples:
      runctl logs big-2 --tail 50
      runctl logs -f big-2
      runctl logs big-2 --attempt 1 --raw
      runctl logs big-2 --json | jq 'select(.kind == "metrics")'
    """
    from runctl import journal, logs, project, record, status
    from runctl.errors import UsageError

    found = record.find(project.root(), run)
    path = logs.find(found, attempt, supervisor)
    if raw or supervisor:
        if as_json:
            raise UsageError("--json goes with neither --raw nor --supervisor", hint="leave out one of them")
        _bytes(found, path, tail, follow)
        return
    story = journal.Journal(found, attempt or max((entry.number for entry in found.attempts()), default=1))
    total = status.read(found).total_steps
    show: Callable[[journal.Entry], str] = (
        (lambda entry: _json(entry.to_json())) if as_json else (lambda entry: journal.sentence(entry, total))
    )
    lines = [(entry, line) for entry in story.new() if (line := show(entry)) or entry.kind == "log"]
    for _, line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
        typer.echo(line)
    if follow:
        for entry in story.follow():
            total = total or status.read(found).total_steps
            if (line := show(entry)) or entry.kind == "log":
                typer.echo(line)
    elif not lines:
        _nothing(path)


def _bytes(run: RunDir, path: Path, tail: int | None, follow: bool) -> None:
    import sys

    from runctl import logs

    text, position = logs.tail(path, tail)
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
    if follow:
        for chunk in logs.follow(run, path, position):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    elif not text and tail != 0:
        _nothing(path)


def _nothing(path: Path) -> None:
    from runctl import view

    view.say(f"nothing in {path} yet" if path.is_file() else f"no log yet: {path}")


def _json(data: dict[str, Any]) -> str:
    import json

    return json.dumps(data, ensure_ascii=False)
