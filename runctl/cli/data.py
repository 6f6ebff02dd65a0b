"""`runctl data`: encoded datasets on a provider's volume."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import ConfigPath, Json, Set, overrides

app = typer.Typer(help="Send encoded datasets to a volume, list them, and compare them.", no_args_is_help=True)


@app.command()
def push(
    config: ConfigPath,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another dataset in the same place.")] = False,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Send the dataset of a config to the volume of `modal.volume` in runctl.yaml, which is made where it is missing.

    It is held against the config's encoding first. What is there already is not sent again: after an interruption the
    same command goes on.

    \b
    Examples:
      runctl data push configs/melee-small.yaml
      runctl data push configs/melee-small.yaml --set data.encoded=data/melee-2 --json
    """
    from runctl import config as configs
    from runctl import project as projects
    from runctl import view
    from runctl.backends.modal import datasets, place
    from runctl.view import data as data_view

    loaded, project = configs.load(config, overrides(settings)), projects.load(config)
    with data_view.bar() as advance:
        pushed = datasets.push(loaded.config, project.root, place.of(project), overwrite=overwrite, progress=advance)
    if as_json:
        view.print_json({name: getattr(pushed, name) for name in data_view.PUSHED})
        return
    data_view.pushed(pushed)


@app.command()
def ls(as_json: Json = False) -> None:
    """List the datasets on the volume: games, frames, size, and the digest of their encoding.

    \b
    Examples:
      runctl data ls
      runctl data ls --json
    """
    from runctl import project as projects
    from runctl import view
    from runctl.backends.modal import datasets, place
    from runctl.view import data as data_view

    where = place.of(projects.load())
    found = datasets.every(where)
    if as_json:
        rows = [{name: getattr(one, name) for name in data_view.STORED} for one in found]
        view.print_json({"volume": where.volume, "datasets": rows})
        return
    data_view.listed(where.volume, found)


@app.command()
def check(config: ConfigPath, settings: Set = None, as_json: Json = False) -> None:
    """Hold the dataset on the volume against a config's encoding and the local copy.

    \b
    Exit codes: 0 it is the config's dataset · 1 it is not, or not whole · 5 Modal cannot be asked.

    \b
    Examples:
      runctl data check configs/melee-small.yaml
    """
    from runctl import config as configs
    from runctl import project as projects
    from runctl import view
    from runctl.backends.modal import datasets, place
    from runctl.errors import Exit
    from runctl.view import data as data_view

    loaded, project = configs.load(config, overrides(settings)), projects.load(config)
    found = datasets.check(loaded.config, project.root, place.of(project))
    if as_json:
        view.print_json({name: getattr(found, name) for name in data_view.CHECKED} | {"ok": not found.faults})
    else:
        data_view.checked(found)
    if found.faults:
        raise typer.Exit(Exit.FINDINGS)
