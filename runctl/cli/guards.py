"""`runctl guards`: what would watch a run."""

from __future__ import annotations

from runctl.cli.options import ConfigPath, Gpu, Json, Set


def command(config: ConfigPath, settings: Set = None, gpu: Gpu = None, as_json: Json = False) -> None:
    """List the guards that a run of this config would have, in words: its own, the budget's and the defaults.

    \b
    Examples:
      runctl guards configs/quickstart.yaml
      runctl guards configs/quickstart.yaml --set budget.max_hours=2 --json
    """
    from runctl import preflight, view
    from runctl.errors import ConfigError, RunctlError
    from runctl.guards import words

    facts, _ = preflight.gather(config, preflight.Options(settings or (), gpu))
    if problems := facts.get("config.problems"):
        raise ConfigError(problems)
    if facts.get("guards.all") is None:
        raise RunctlError(f"{config} has no guards: {facts.why('guards.all')}")
    found = facts.need("guards.all")
    if as_json:
        view.print_json({"path": str(config), "guards": found})
        return
    rows = [["on" if one["on"] else "off", one["name"], one["origin"], words.line(one)] for one in found]
    view.table(["", "guard", "from", "what it does"], rows)
