"""`runctl gpus`: the GPU catalogue and its prices."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import Json

Live = Annotated[
    bool, typer.Option("--live", help="Read Modal's prices for your workspace through its client, and keep them.")
]


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One GPU, with the source of each figure.")
    ] = None,
    live: Live = False,
    as_json: Json = False,
) -> None:
    """List the GPUs that runctl knows: memory, peak rates, price per hour. Old prices are marked.

    A project's own prices (`prices:` in runctl.yaml) come first, then those read with --live, then list prices.

    \b
    Examples:
      runctl gpus
      runctl gpus A100
      runctl gpus --live
      runctl gpus --json
    """
    from runctl import hardware, live_prices, prices, view
    from runctl import project as projects
    from runctl.team import policy
    from runctl.view import gpus as gpus_view

    catalogue = hardware.catalogue()
    chosen = [hardware.find(name)] if name else list(catalogue.gpus.values())
    project = projects.load()
    age = policy.read(project.policy, str(project.file or projects.FILE))["price_age"]
    refreshed = live_prices.refresh(project.root) if live else None
    providers = prices.names(project.prices)
    known = [prices.of(provider, project.prices, prices.live(project.root, provider)) for provider in providers]
    rates = [one for one in known if one is not None]
    if as_json:
        gpus = [hardware.to_json(gpu) | {"prices_usd_per_hour": prices.of_gpu(gpu, rates, age)} for gpu in chosen]
        besides = {one.provider: prices.besides(one, age) for one in rates}
        found = {"recorded": catalogue.recorded, "gpus": gpus, "providers": besides}
        view.print_json(found | ({"not_known": refreshed.unknown} if refreshed else {}))
        return
    if refreshed:
        gpus_view.refreshed(refreshed)
    if name:
        gpus_view.one(chosen[0], rates, age)
    else:
        gpus_view.catalogue(chosen, rates, age, catalogue.recorded)
