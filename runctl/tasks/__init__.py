"""Tasks: what is trained. A task is a folder or file in this package, found by being there.

`worldmodel/` trains the built-in model; `command` runs a program of the user's own and needs no code here but
its name, because the supervisor starts it directly.
"""

from __future__ import annotations

import pkgutil
from functools import cache


@cache
def names() -> tuple[str, ...]:
    """The names that `task:` may have."""
    return tuple(sorted({module.name for module in pkgutil.iter_modules(__path__)} | {"command"}))
