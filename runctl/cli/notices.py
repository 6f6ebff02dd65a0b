"""`runctl notices`: who is told what happens to a run."""

from __future__ import annotations

import typer

from runctl.cli.options import Json

app = typer.Typer(help="List who is told what happens to a run, or send a test.", invoke_without_command=True)


@app.callback()
def _list(context: typer.Context, as_json: Json = False) -> None:
    """List who is told what happens to a run: the services of `notices:` in runctl.yaml.

    \b
    Examples:
      runctl notices
      runctl notices test
    """
    if context.invoked_subcommand is not None:
        return
    from runctl.cli import guarded

    guarded(show)(as_json=as_json)


def show(as_json: bool) -> None:
    from runctl import project, view
    from runctl.notices import targets

    found = project.load().notices
    if as_json:
        rows = [{**one.to_json(), "set": one.address is not None, "service": targets.service(one)} for one in found]
        view.print_json({"notices": rows})
        return
    if not found:
        view.say(f"nobody is told what happens to a run; in runctl.yaml:\n  {targets.EXAMPLE}")
        return
    table = [[one.env, targets.service(one) or "not set here", targets.words(one)] for one in found]
    view.table(["address in", "service", "is told"], table)
    for why in targets.missing(found):
        view.say(f"[warn]{why}[/warn]")


@app.command()
def test(as_json: Json = False) -> None:  # noqa: PT028 - a command, not a test of runctl
    """Send a test to every service, and say what arrived: exit 0 if all of it did, else 5.

    \b
    Examples:
      runctl notices test
      runctl notices test --json
    """
    from runctl import project, view
    from runctl.errors import Exit, UsageError
    from runctl.notices import sending, targets

    found = project.load().notices
    if not found:
        raise UsageError("nobody is told what happens to a run", hint=f"in runctl.yaml: {targets.EXAMPLE}")
    rows = sending.test(found)
    if as_json:
        view.print_json({"notices": rows})
    else:
        view.table(
            ["address in", "", "why"], [[row["to"], "sent" if row["sent"] else "failed", row["why"]] for row in rows]
        )
    if not all(row["sent"] for row in rows):
        raise typer.Exit(Exit.PROVIDER)
