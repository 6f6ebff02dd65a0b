"""`runctl config`: what a config really says."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import ConfigPath, Gpu, Json, Set, overrides

app = typer.Typer(help="Show the effective config and its origins.", no_args_is_help=True)


@app.command()
def show(
    config: ConfigPath,
    settings: Set = None,
    gpu: Gpu = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out values that are defaults.")] = False,
    as_json: Json = False,
) -> None:
    """Print every setting of a config with the place its value came from.

    \b
    Examples:
      runctl config show configs/quickstart.yaml
      runctl config show configs/quickstart.yaml --set training.batch_size=256 --changed
      runctl config show configs/quickstart.yaml --json
    """
    from runctl import config as configs
    from runctl import view
    from runctl.view import config as config_view

    loaded = configs.load(config, overrides(settings, gpu))
    if as_json:
        view.print_json(
            {
                "digest": configs.digest(loaded.config),
                "config": configs.to_effective(loaded.config),
                "origins": {
                    key: {"kind": origin.kind, "position": str(origin.position) if origin.position else None}
                    for key, origin in loaded.origins.items()
                },
                "notes": loaded.notes,
            }
        )
        return
    config_view.effective(loaded, configs.to_effective(loaded.config), configs.digest(loaded.config), changed)


@app.command(hidden=True)
def schema(
    as_json: Annotated[bool, typer.Option("--json", help="Changes nothing: the schema is JSON.")] = False,
) -> None:
    """Print the JSON schema of a config: `runctl schema` under its old name.

    \b
    Examples:
      runctl schema > schema/config.json
    """
    from runctl.cli import schema as command

    command.command()
