"""`runctl status`, also `ls` and `ps`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runctl.cli.options import Json, complete_run

if TYPE_CHECKING:
    from runctl.purse import Purse
    from runctl.record import RunDir
    from runctl.status import Listing, Query

_WATCH_SECONDS = 1.0
_LIMIT = 10


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="One run's page.", autocompletion=complete_run)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every run.")] = False,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only runs in this state. Repeatable.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="GLOB", help="Only runs named so: 'big-*'. Repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only runs alive since: 2d (ago), 14:30, 2026-11-21.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only runs with this setting in their config. Repeatable."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="KEY", help="started, ended, name, state, loss, cost, time, step; -KEY: down."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=0, help="At most so many that have ended (10); with --sort so many in all."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="NAMES", help="These columns: run,state,training.lr.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the names, for scripts.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; with RUN until it ends, with its exit code.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every run: where it is, how it is, when it ends. With RUN, that run's page.

    The state is derived from evidence each time: a run whose process is gone is never called running.

    \b
    Examples:
      runctl status                         active runs and the last 10 that ended
      runctl status --state failed,lost --since 2d
      runctl status --all --sort -cost --limit 5
      runctl status --where training.lr=0.0003 --columns run,state,loss,training.lr
      runctl stop $(runctl ls -q --name 'big-*' --state running)
      runctl status big-2                   attempts, checkpoints, metrics beside the baselines
      runctl status --watch
      runctl status --json | jq '.runs[] | select(.state == "running")'
    """
    from runctl import project, record, status, view

    if run is not None:
        _one(record.find(project.root(), run), watch, as_json)
        return
    root = project.root()
    query = _query(everything, state, name, since, where, sort, limit)
    shown = _columns(columns)
    if watch:
        _watch(root, query, shown, as_json)
        return
    found = status.select(root, query)
    money = None if quiet else _purse(root)
    if as_json:
        _json(found, money)
        return
    _show(root, found, shown, quiet)
    if found.hidden:
        which = "more" if sort else "more that ended earlier"
        view.say(f"{found.hidden:,} {which}: " + ("runctl status --all" if limit is None else "give a larger --limit"))
    elif not found.shown and not quiet:
        hint = "no run is as asked for" if state or name or since or where else "start one with: runctl launch CONFIG"
        view.say(f"no runs to show under {record.runs_root(root)}; {hint}")
    if money:
        view.say(f"purse: {money.words()}")
    if money and money.unreadable:
        view.err().print(f"purse: {money.doubts()}", style="warn", markup=False)


def _purse(root: Path) -> Purse | None:
    """What of the project's budget is spent and left, if it has one. Most have none, and to read runctl.yaml takes
    longer than the list."""
    from runctl import project, view
    from runctl.errors import UsageError

    try:
        if b"total_usd" not in (root / project.FILE).read_bytes():
            return None
        from runctl import purse

        return purse.read(project.load(root / project.FILE), write=True)
    except OSError:
        return None
    except UsageError as error:
        view.err().print(f"the purse cannot be read: {error.message}", style="warn", markup=False)
        return None


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


def _show(root: Path, found: Listing, columns: list[str], quiet: bool) -> None:
    from runctl.view import listing

    if quiet:
        listing.names(found.shown)
    elif found.shown:
        listing.table(found.shown, columns, _settings(root, found, columns))


def _settings(root: Path, found: Listing, columns: list[str]) -> dict[str, dict[str, Any]]:
    """The configs of the runs, where a column is a setting."""
    from runctl import record
    from runctl.status.listing import config_of

    if not any("." in name for name in columns):
        return {}
    runs = record.runs_root(root)
    return {entry.run: config_of(f"{runs}/{entry.run}") for entry in found.shown}


def _watch(root: Path, query: Query, columns: list[str], as_json: bool) -> None:
    import itertools
    import time

    from runctl import status
    from runctl.view import runs

    def snapshots() -> Iterator[Listing]:
        for turn in itertools.count():
            time.sleep(_WATCH_SECONDS if turn else 0)
            yield status.select(root, query)

    if not as_json:
        runs.watch_table((found, columns, _settings(root, found, columns)) for found in snapshots())
        return
    for found in snapshots():
        _line({"runs": [entry.to_json() for entry in found.shown]})


def _query(
    everything: bool,
    state: list[str] | None,
    name: list[str] | None,
    since: str | None,
    where: list[str] | None,
    sort: str | None,
    limit: int | None,
) -> Query:
    """The options as a query; ten that have ended are enough where nothing else is said."""
    from runctl.cli._moments import moment
    from runctl.errors import UsageError, did_you_mean
    from runctl.status import SORTS, STATES, Query

    if sort is not None and sort.removeprefix("-") not in SORTS:
        hint = did_you_mean(sort.removeprefix("-"), SORTS) or "with '-' before it the largest comes first: --sort -cost"
        raise UsageError(f"cannot sort by '{sort}'; known: {', '.join(SORTS)}", hint=hint)
    asked = everything or state or name or since or where or sort
    return Query(
        states=_known(state, STATES, "state"),
        names=[pattern for text in name or [] for pattern in text.split(",") if pattern],
        since=None if since is None else moment(since, "--since"),
        where=dict(_pair(text) for text in where or []),
        sort=sort,
        limit=limit if limit is not None or asked else _LIMIT,
    )


def _columns(given: str | None) -> list[str]:
    from runctl.view.cells import CELLS

    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    names = ["ETA" if name.lower() == "eta" else name for name in names]
    _known([name for name in names if "." not in name], CELLS, "column")
    return names


def _known(given: list[str] | None, known: Any, kind: str) -> list[str]:
    from runctl.errors import UsageError, did_you_mean

    wanted = [word for text in given or [] for word in text.split(",") if word]
    for word in wanted:
        if word not in known:
            raise UsageError(f"no {kind} '{word}'; known: {', '.join(known)}", hint=did_you_mean(word, list(known)))
    return wanted


def _pair(text: str) -> tuple[str, str]:
    from runctl.errors import UsageError

    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--where {text}: write it as KEY=VALUE, training.lr=0.0003 for instance")
    return key.strip(), value.strip()


def _json(found: Listing, money: Purse | None) -> None:
    """One run a line: ten thousand are written in a moment, and it is JSON all the same."""
    import json
    import sys

    from runctl.view import SCHEMA_VERSION

    write = json.JSONEncoder(allow_nan=False).encode
    rows = ",\n    ".join(write(entry.to_json()) for entry in found.shown)
    facts = {"schema_version": SCHEMA_VERSION, "hidden": found.hidden, "purse": money.to_json() if money else None}
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in facts.items())
    sys.stdout.write(f'{{\n{head}  "runs": ' + (f"[\n    {rows}\n  ]" if rows else "[]") + "\n}\n")


def _line(data: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps({"schema_version": 1, **data}))
