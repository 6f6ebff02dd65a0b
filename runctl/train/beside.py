"""Long work that cannot report by itself, done beside a main thread that goes on beating.

For loading only: a training step is never run like this, because a heartbeat must stop when the steps do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
POLL_SECONDS = 0.3


def beside(work: Callable[[], Result], beat: Callable[[], None]) -> Result:
    """What `work` returns or raises; `beat` is called several times a second meanwhile. If `beat` raises, so does
    this, at once, and the work is left to end by itself or with the process."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="loading", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        beat()
    if errors:
        raise errors[0]
    return results[0]
