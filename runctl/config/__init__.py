"""The config: one YAML file → a frozen `RunConfig`, with the origin of every value.

Pydantic looks through every installed package for plugins when its first model is built: a third of the time that
`runctl preflight` would take. It is told not to here, and only here: no program that runctl starts inherits that.
"""

import os as _os

_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_ours = _PLUGINS not in _os.environ
_os.environ.setdefault(_PLUGINS, "__all__")
try:
    from runctl.config.every import Every
    from runctl.config.identity import digest, from_effective, schema, to_effective
    from runctl.config.load import LoadedConfig, Origin, load, parse_override, validate
    from runctl.config.model import RunConfig
finally:
    if _ours:
        del _os.environ[_PLUGINS]

__all__ = [
    "Every",
    "LoadedConfig",
    "Origin",
    "RunConfig",
    "digest",
    "from_effective",
    "load",
    "parse_override",
    "schema",
    "to_effective",
    "validate",
]
