"""JSON schemas for editors: of a config and of `runctl.yaml`, every key with what it means, its unit and examples.

The types come from `RunConfig`; here they become what a person may write (`5m`, `64GiB`, `1 epoch`), and each key gets
its words. An editor shows them and marks a misspelt key while it is typed; whether a config is valid, preflight says.
"""

from __future__ import annotations

from runctl.schema.of_config import config
from runctl.schema.of_project import project

__all__ = ["config", "project"]
