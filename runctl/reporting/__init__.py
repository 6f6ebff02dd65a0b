"""Report formats: one file each, found by being there (`_` begins what several formats share).

`render(reports, unreadable=(), comparison=None) -> str` makes the whole output; `unreadable` are the errors of files
that could not be read, `comparison` (`runctl.base`) is there where the configs were compared with another git ref.

`text` is for people and goes through `runctl.view.report`; the others are plain text for programs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from runctl.errors import UsageError, did_you_mean


def names() -> list[str]:
    """The formats that there are."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.rstrip("_") for name in found if not name.startswith("_"))


def load(name: str) -> Callable[..., str]:
    """The renderer of a format; raises UsageError that names the nearest."""
    if name not in names():
        hint = did_you_mean(name, names()) or f"known: {', '.join(names())}"
        raise UsageError(f"no report format '{name}'", hint=hint)
    module = "json_" if name == "json" else name
    found: Callable[..., str] = importlib.import_module(f"{__name__}.{module}").render
    return found
