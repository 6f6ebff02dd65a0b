"""`runctl resume --lost`: what was lost, asked about once, and taken up run by run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from runctl.errors import Exit, RunctlError

if TYPE_CHECKING:
    from runctl.lost import Lost


def take_up(since: str | None, quiet_seconds: float, *, force: bool, yes: bool, no_wait: bool, as_json: bool) -> None:
    """List every lost run, ask, start those that may be resumed, and see their first steps. Exit 1 where some were left
    that could have been; else the highest exit code of what was refused or did not begin."""
    from runctl import lost, project, view
    from runctl.cli._moments import moment

    found = lost.find(project.root(), since=None if since is None else moment(since, "--since"), force=force)
    able = [one for one in found if one.plan is not None]
    _tell(found)
    go = bool(able) and (yes or _asked(able))
    errors = {one.run.name: one.refused for one in found if one.refused is not None}
    begun: list[str] = []
    states: dict[str, Any] = {}
    try:
        if go:
            _start(able, begun, errors)
            if not no_wait:
                _await(able, begun, quiet_seconds, states, errors)
    except KeyboardInterrupt:
        view.say(f"\n{', '.join(begun) or 'nothing'} was started, and goes on; see: runctl status")
        raise typer.Exit(Exit.INTERRUPTED) from None
    for name in () if as_json else begun:
        typer.echo(name)
    if as_json:
        rows = []
        for one in found:
            name = one.run.name
            error = errors[name].to_json() if name in errors else None
            rows.append({**one.to_json(), "resumed": name in begun, "status": states.get(name), "error": error})
        view.print_json({"runs": rows})
    if able and not go:
        raise typer.Exit(Exit.FINDINGS)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors.values()))


def _tell(found: Sequence[Lost]) -> None:
    from runctl import view

    if not found:
        view.say("no run of this project is lost")
        return
    console = view.err()
    for one in found:
        console.print(one.words, markup=False)
        if one.plan is None:
            view.print_error(one.refused or RunctlError("it cannot be resumed"))
            continue
        console.print(f"  {one.plan.words}", markup=False)
        console.print(f"  {one.costs}", markup=False)
        for note in one.plan.notes:
            console.print(f"  note: {note}", style="dim", markup=False)


def _asked(able: Sequence[Lost]) -> bool:
    """What a person says; without a terminal, that nothing was started."""
    from runctl import view
    from runctl.units import format_usd

    which = "it" if len(able) == 1 else f"these {len(able)}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        view.say(f"nothing was started: add --yes to resume {which}")
        return False
    likely = sum(one.likely_usd or 0.0 for one in able)
    price = f" for likely {format_usd(likely)}" if likely else ""
    if typer.confirm(f"resume {which}{price}?", err=True):
        return True
    view.say("nothing was started")
    return False


def _start(able: Sequence[Lost], begun: list[str], errors: dict[str, RunctlError]) -> None:
    from runctl import lost, view

    for one in able:
        if (error := lost.take_up(one)) is not None:
            errors[one.run.name] = error
            view.print_error(error)
        else:
            begun.append(one.run.name)


def _await(
    able: Sequence[Lost],
    begun: Sequence[str],
    quiet_seconds: float,
    states: dict[str, Any],
    errors: dict[str, RunctlError],
) -> None:
    """The first step of each that was started."""
    from runctl import lost, view

    for run, found in lost.starts([one.run for one in able if one.run.name in begun], quiet_seconds):
        if isinstance(found, RunctlError):
            errors[run.name] = found
            view.print_error(found)
            continue
        states[run.name] = found.to_json()
        step = f"step {found.step:,} has run" if found.step else "it has started"
        is_ = "has" if found.state == "succeeded" else "is"
        view.say(f"[name]{run.name}[/name] {is_} {found.state}: {step}")
