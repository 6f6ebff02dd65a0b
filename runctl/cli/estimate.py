"""`runctl estimate`: how large, how much memory, how long, how much money."""

from __future__ import annotations

import typer

from runctl.cli.options import ConfigPath, Gpu, Json, Set, overrides


def command(config: ConfigPath, settings: Set = None, gpu: Gpu = None, as_json: Json = False) -> None:
    """Estimate parameters (exact), peak memory, time and cost (ranges, each with its basis).

    \b
    Examples:
      runctl estimate configs/mamba2-medium.yaml
      runctl estimate configs/mamba2-medium.yaml --gpu H100 --set training.batch_size=4096
      runctl estimate configs/mamba2-medium.yaml --json
    """
    from runctl import preflight, view
    from runctl.errors import ConfigError
    from runctl.reporting import json_
    from runctl.view import estimate as estimate_view

    facts, document = preflight.gather(config, overrides(settings, gpu))
    if problems := facts.get("config.problems"):
        raise ConfigError(problems)
    report = preflight.check(facts, document, only=())
    if as_json:
        view.print_json({"path": report.path, "estimates": json_.estimates(report)})
        return
    estimate_view.estimate(report)
    if problem := facts.get("gpu.problem"):
        view.err().print(f"{problem[0]}; {problem[1]}", style="warn", markup=False)
        raise typer.Exit(2)
