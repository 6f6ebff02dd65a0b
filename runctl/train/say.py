"""Lines for a person in the attempt's log. A full disk, on which the log lies too, must not end a run in its place."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(line: str) -> None:
    """One line on stderr, if it can be written."""
    with suppress(OSError):
        print(" ".join(line.splitlines()), file=sys.stderr, flush=True)


def warn(line: str) -> None:
    say(f"warning: {line}")
