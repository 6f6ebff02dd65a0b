"""What is said where a command that only knows runctl's own configs is given another trainer's."""

from __future__ import annotations

from typing import Any

from runctl import adapters, project, yamldoc
from runctl.errors import ConfigError, RunctlError, UsageError


def reworded(error: RunctlError, config: Any) -> RunctlError:
    """One sentence in place of a page of unknown keys, where the config is another trainer's; else the error itself."""
    if not isinstance(error, ConfigError) or config is None:
        return error
    try:
        spec = adapters.choose(yamldoc.load(config, tags=True), project.load(config), None)
    except RunctlError:
        return error
    if spec is None:
        return error
    hint = "preflight, estimate and adapt read it; a config with `task: command` runs its trainer (docs/any-program.md)"
    whose = f"{spec.name} ({spec.title or 'an adapter of your own'})"
    return UsageError(f"{config} is read as {whose}: no config of runctl's own, which this command needs", hint=hint)
