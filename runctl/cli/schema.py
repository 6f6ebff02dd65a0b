"""`runctl schema`: what editors read, so that a misspelt key is marked while it is typed."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    of: Annotated[
        str, typer.Option("--for", metavar="FILE", help="config, or project: the schema of runctl.yaml.")
    ] = "config",
    as_json: Annotated[bool, typer.Option("--json", help="Changes nothing: the schema is JSON.")] = False,
) -> None:
    """Print the JSON schema of a config or of runctl.yaml: every key with its meaning, its unit and examples.

    \b
    Examples:
      runctl schema > .runctl/schema.json
      runctl schema --for project

    `runctl init` writes both, and the line by which editors find them.
    """
    from runctl import schema
    from runctl.errors import UsageError, did_you_mean

    made = {"config": schema.config, "project": schema.project}
    if of not in made:
        hint = did_you_mean(of, list(made)) or "known: config, project"
        raise UsageError(f"there is no schema for '{of[:40]}'", hint=hint)
    typer.echo(json.dumps(made[of](), indent=2, ensure_ascii=False))
