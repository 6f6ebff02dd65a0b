"""The trainer's stacks on demand: on SIGUSR2, all its threads into the attempt's stacks.txt.

By faulthandler, whose handler is C and needs no GIL: it answers where Python itself cannot. That the file is there
tells the supervisor that the signal, which would otherwise end a process, is expected.
"""

from __future__ import annotations

import faulthandler
import signal
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_open: list[BinaryIO] = []  # faulthandler keeps a descriptor, not the file


def register(path: Path) -> None:
    """Make ready; where the file cannot be written, a hang is ended without stacks."""
    with suppress(OSError):
        file = path.open("ab", buffering=0)
        faulthandler.register(signal.SIGUSR2, file, all_threads=True, chain=False)
        _open.append(file)  # type: ignore[arg-type]
