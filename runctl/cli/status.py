"""`runctl status`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runctl.cli.options import Json, complete_run

if TYPE_CHECKING:
    from runctl.record import RunDir
    from runctl.status import RunStatus

_WATCH_SECONDS = 1.0


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="One run's page.", autocompletion=complete_run)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every run.")] = False,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only runs in this state. Repeatable.")
    ] = None,
    number: Annotated[int, typer.Option("-n", min=0, help="So many runs that have ended, besides the active.")] = 10,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; with RUN until it ends, with its exit code.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every run: where it is, how it is, when it ends. With RUN, that run's page.

    The state is derived from evidence each time: a run whose process is gone is never called running.

    \b
    Examples:
      runctl status                         active runs and the last 10
      runctl status --all --state failed
      runctl status big-2                   attempts, checkpoints, metrics beside the baselines
      runctl status --watch
      runctl status --json | jq '.runs[] | select(.state == "running")'
    """
    from runctl import project, record, status, view

    if run is not None:
        _one(record.find(project.root(), run), watch, as_json)
        return
    root, states = project.root(), _states(state)
    if watch:
        _watch(root, everything, states, number, as_json)
        return
    found, hidden = status.select(root, everything, states, number)
    if as_json:
        view.print_json({"runs": [entry.to_json() for entry in found]})
        return
    if found:
        from runctl.view import runs

        runs.table(found)
    if hidden:
        view.say(f"{hidden:,} more that ended earlier: runctl status --all")
    elif not found:
        hint = "start one with: runctl launch CONFIG" if not states else f"none is {' or '.join(states)}"
        view.say(f"no runs to show under {record.runs_root(root)}; {hint}")


def _one(run: RunDir, watch: bool, as_json: bool) -> None:
    from runctl import page, view, wait
    from runctl.cli._follow import pages
    from runctl.view import runs

    if not watch:
        found = page.read(run)
        view.print_json({"run": run.name, **found.to_json()}) if as_json else runs.page(found)
        return
    if as_json:
        for last in wait.watch(run, _WATCH_SECONDS):
            _line(last.to_json())
        raise typer.Exit(wait.exit_code(last))
    shown = runs.follow(pages(run))
    if shown is not None:
        runs.page(shown)
        raise typer.Exit(wait.exit_code(shown.status))


def _watch(root: Path, everything: bool, states: list[str], number: int, as_json: bool) -> None:
    import itertools
    import time

    from runctl import status
    from runctl.view import runs

    def snapshots() -> Iterator[list[RunStatus]]:
        for turn in itertools.count():
            time.sleep(_WATCH_SECONDS if turn else 0)
            yield status.select(root, everything, states, number)[0]

    if not as_json:
        runs.watch_table(snapshots())
        return
    for found in snapshots():
        _line({"runs": [entry.to_json() for entry in found]})


def _states(given: list[str] | None) -> list[str]:
    from runctl.errors import UsageError, did_you_mean
    from runctl.status import STATES

    wanted = [word for text in given or [] for word in text.split(",") if word]
    for word in wanted:
        if word not in STATES:
            raise UsageError(f"no state '{word}'; known: {', '.join(STATES)}", hint=did_you_mean(word, STATES))
    return wanted


def _line(data: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps({"schema_version": 1, **data}, ensure_ascii=False))
