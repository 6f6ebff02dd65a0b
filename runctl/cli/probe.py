"""`runctl probe`."""

from __future__ import annotations

from typing import Annotated

import typer

from runctl.cli.options import ConfigPath, Gpu, Json, Set, overrides

Seconds = Annotated[
    str, typer.Option("--for", metavar="DURATION", help="How long it may take; at least 20 steps are run.")
]


def command(
    config: ConfigPath,
    duration: Seconds = "60s",
    settings: Set = None,
    gpu: Gpu = None,
    as_json: Json = False,
) -> None:
    """Run real steps of a config here: measure them, and look whether they are sound. Exit 1 if they are not.

    It looks whether losses, gradients and weights are finite, the first loss is that of guessing, no head sees its
    answer, a validation fits, batch and model are what the config says, and a checkpoint goes on where it was saved.
    What it measures makes `runctl estimate` narrow.

    \b
    Examples:
      runctl probe configs/melee-small.yaml
      runctl probe configs/melee-small.yaml --for 3m
      runctl probe configs/quickstart.yaml --set training.batch_size=1024 --json
      runctl launch configs/melee-small.yaml --probe-first --detach
    """
    from runctl import view
    from runctl.cli._durations import seconds
    from runctl.view import probe as probe_view

    found = probe_view.run(config, overrides(settings, gpu), seconds(duration, "--for"))
    if as_json:
        view.print_json(found.to_json())
    else:
        probe_view.report(found, config, overrides(settings, gpu))
    if not found.ok:
        raise typer.Exit(1)
