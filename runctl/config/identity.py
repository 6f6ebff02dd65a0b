"""The effective config as data: to and from JSON, its digest and its JSON schema."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runctl.config.model import RunConfig


def to_effective(config: RunConfig) -> dict[str, Any]:
    """The whole config as JSON-able data, defaults included; `from_effective` reads it back."""
    return dict(config.model_dump(mode="json"))


def from_effective(data: dict[str, Any]) -> RunConfig:
    """Rebuild a config that `to_effective` wrote; raises pydantic.ValidationError on anything else."""
    return RunConfig.model_validate(data)


def digest(config: RunConfig) -> str:
    """SHA-256 (64 hex digits) of the effective config without its name: equal experiments have equal digests."""
    data = to_effective(config)
    del data["name"]
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def schema() -> dict[str, Any]:
    """The JSON schema of a config file, for editors; `name` may be left out of a file."""
    result = RunConfig.model_json_schema()
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["title"] = "runctl config"
    result.pop("required", None)
    return result
