"""Report formats: one file each, found by being there; `render(reports, unreadable=()) -> str` makes the whole output;
`unreadable` are the errors of files that could not be read.

`text` is for people and goes through `runctl.view.report`; the others are plain text for programs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from runctl.errors import UsageError, did_you_mean


def names() -> list[str]:
    """The formats that there are."""
    return sorted(module.name.rstrip("_") for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Callable[..., str]:
    """The renderer of a format; raises UsageError that names the nearest."""
    if name not in names():
        hint = did_you_mean(name, names()) or f"known: {', '.join(names())}"
        raise UsageError(f"no report format '{name}'", hint=hint)
    module = "json_" if name == "json" else name
    found: Callable[..., str] = importlib.import_module(f"{__name__}.{module}").render
    return found
