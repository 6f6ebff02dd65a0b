"""Long work that cannot report by itself, done beside a main thread that goes on beating.

For loading only: a training step is never run like this, because a heartbeat must stop when the steps do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")
POLL_SECONDS = 0.3


class Begun(Generic[Result]):
    """Work that goes on in a thread of its own, which ends with it, until somebody needs what comes of it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._results: list[Result] = []
        self._errors: list[BaseException] = []

        def run() -> None:
            try:
                self._results.append(work())
            except BaseException as error:
                self._errors.append(error)

        self._thread = threading.Thread(target=run, name="loading", daemon=True)
        self._thread.start()

    def result(self, beat: Callable[[], None]) -> Result:
        """What the work returns or raises; `beat` is called several times a second meanwhile. If `beat` raises, so does
        this, at once, and the work is left to end by itself or with the process."""
        while self._thread.is_alive():
            self._thread.join(POLL_SECONDS)
            beat()
        if self._errors:
            raise self._errors[0]
        return self._results[0]


def beside(work: Callable[[], Result], beat: Callable[[], None]) -> Result:
    """What `work` returns or raises, with `beat` meanwhile as in `Begun.result`."""
    return Begun(work).result(beat)
