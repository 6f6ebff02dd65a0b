"""`runctl pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runctl.cli.options import Json, RunName


def command(
    run: RunName,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A folder; the run becomes DEST/RUN.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, latest, all, none, or a step.")] = "best",
    as_json: Json = False,
) -> None:
    """Copy a run's records and its best checkpoint to a folder, verified by checksum.

    \b
    Examples:
      runctl pull big-2 results
      runctl pull big-2 results --checkpoint latest
    """
    from runctl import project, pull, record, view
    from runctl.units import counted, format_bytes

    found = record.find(project.root(), run)
    done = pull.pull(found, destination, checkpoint, lambda name: view.say(f"[dim]{name}[/dim]"))
    names = ", ".join(done.checkpoints) or "no checkpoint"
    view.say(f"{run} ({done.state}): {done.files} files, {format_bytes(done.bytes)}, {names}; checksums agree")
    if done.masked:
        view.say(f"[warn]{counted(done.masked, 'secret')} hidden in the copied logs[/warn]")
    for name in done.left_out:
        view.say(f"[warn]left out: {name} is no file of the run[/warn]")
    if as_json:
        data = {"run": run, "path": str(done.path), "state": done.state, "files": done.files, "bytes": done.bytes}
        view.print_json(
            {**data, "checkpoints": list(done.checkpoints), "left_out": list(done.left_out), "masked": done.masked}
        )
    else:
        typer.echo(str(done.path))
