"""The config: one YAML file → a frozen `RunConfig`, with the origin of every value."""

from runctl.config.every import Every
from runctl.config.identity import digest, from_effective, schema, to_effective
from runctl.config.load import LoadedConfig, Origin, load, parse_override, validate
from runctl.config.model import RunConfig

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
