"""The effective config as YAML, with the origin of each value beside it."""

from __future__ import annotations

import json
from typing import Any

from runctl import view
from runctl.config import LoadedConfig


def effective(loaded: LoadedConfig, data: dict[str, Any], digest: str, changed_only: bool) -> None:
    """Print `key: value  # origin` for every leaf of `data`."""
    from rich.text import Text

    section = ""
    for key, origin in loaded.origins.items():
        if changed_only and origin.kind == "default":
            continue
        parts = key.split(".")
        if len(parts) > 1 and parts[0] != section:
            section = parts[0]
            view.out().print(f"{section}:")
        value: Any = data
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        left = f"{'  ' * (len(parts) - 1)}{parts[-1]}: {_yaml(value)}"
        line = Text(f"{left:<44}")
        line.append(f" # {origin}", style="dim")
        view.out().print(line)
    for note in loaded.notes:
        view.say(f"[note]note[/note]: {note}")
    view.say(f"[dim]digest {digest}[/dim]")


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | list | dict):
        return json.dumps(value)
    text = str(value)
    return text if text and not set(text) & set(":#{}[]'\"\n") else json.dumps(text)
