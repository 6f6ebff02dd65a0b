"""`runctl gpus`: the GPU catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One GPU, with the source of each figure.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the GPUs that runctl knows: memory, peak rates, price per hour.

    \b
    Examples:
      runctl gpus
      runctl gpus A100
      runctl gpus --json
    """
    from runctl import hardware, view
    from runctl.view import gpus as gpus_view

    catalogue = hardware.catalogue()
    chosen = [hardware.find(name)] if name else list(catalogue.gpus.values())
    if as_json:
        view.print_json({"recorded": catalogue.recorded, "gpus": [hardware.to_json(gpu) for gpu in chosen]})
    elif name:
        gpus_view.one(chosen[0])
    else:
        gpus_view.catalogue(chosen, catalogue.recorded)
