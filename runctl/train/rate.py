"""Training examples per second of this attempt; validations and checkpoints are not counted as training."""

from __future__ import annotations

import time

WINDOW_SECONDS = 5.0


class Rate:
    """The rate over the last few seconds of training."""

    def __init__(self) -> None:
        self._value: float | None = None
        self.restart()

    def add(self, examples: int) -> None:
        self._examples += examples

    def read(self, *, now: bool = False) -> float | None:
        """The rate as last measured; measured anew every WINDOW_SECONDS, or `now` unless hardly any time went by."""
        seconds = time.monotonic() - self._since
        enough = 0.0 if self._value is None else 0.2 if now else WINDOW_SECONDS
        if self._examples and seconds > enough:
            self._value = round(self._examples / seconds, 3)
            if seconds >= WINDOW_SECONDS:
                self.restart()
        return self._value

    def restart(self) -> None:
        """Forget what went by since the last reading."""
        self._examples = 0
        self._since = time.monotonic()
