"""`runctl init`: begin a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.options import Json


def command(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the project begins.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Begin a project: runctl.yaml with its policy, a first config, a run card, a workflow, the editor's schemas.

    What is there already stays as it is.

    \b
    Examples:
      runctl init
      runctl init experiments --dry-run
    """
    from runctl import init, view

    items = init.plan(folder, force=force)
    if not dry_run:
        init.write(items)
    if as_json:
        view.print_json({"files": [{"path": str(one.path), "state": one.state} for one in items], "dry_run": dry_run})
        return
    words = {"new": "wrote", "replaced": "replaced", "extended": "added lines to", "there": "there already:"}
    if dry_run:
        words |= {"new": "would write", "replaced": "would replace", "extended": "would add lines to"}
    for item in items:
        typer.echo(f"{words[item.state]} {item.path}")
    if any(item.state == "there" for item in items):
        typer.echo("what was there stays as it is; --force replaces it", err=True)
    if not dry_run:
        first = folder / "configs" / "first.yaml"
        typer.echo(f"next: runctl preflight {folder / 'configs'} · runctl launch {first} --dry-run", err=True)
