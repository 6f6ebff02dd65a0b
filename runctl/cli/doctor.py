"""`runctl doctor`."""

from __future__ import annotations

import typer

from runctl.cli.options import Json


def command(as_json: Json = False) -> None:
    """Look at this machine, its Python and the folder of the runs: what works, what does not, what to do.

    Locks and renames are tried, torch is imported in a process of its own. Credentials are looked for and never shown.
    Exit 1 if something is bad.

    \b
    Examples:
      runctl doctor
      runctl doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    from runctl import doctor, project, view
    from runctl.errors import Exit

    root = project.root()
    found = []
    if as_json:
        found = list(doctor.examine(root))
        counts = {state: sum(check.state == state for check in found) for state in doctor.STATES}
        view.print_json({"ok": not counts["bad"], "counts": counts, "checks": [check.to_json() for check in found]})
    else:
        from runctl.view import doctor as views

        for check in doctor.examine(root):
            views.line(check, new_group=not found or found[-1].group != check.group)
            found.append(check)
        views.last(found)
    if any(check.state == doctor.BAD for check in found):
        raise typer.Exit(Exit.FINDINGS)
