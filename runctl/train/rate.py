"""Training examples per second of this attempt; validations and checkpoints are not counted as training.

The first step is not counted either: it pays for what is done once (memory, kernels, plans).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

WINDOW_SECONDS = 5.0
FEWEST_STEPS = 2


class Rate:
    """The rate over the last few seconds of training, None until two steps have followed the first."""

    def __init__(self) -> None:
        self._since: float | None = None  # up to when time is counted; None before the first step has ended
        self._seconds = 0.0
        self._examples = 0
        self._marks: deque[tuple[float, int]] = deque()  # (seconds, examples) at the ends of the recent steps

    def add(self, examples: int) -> None:
        """A step has ended."""
        if self._since is None:
            self._since = time.monotonic()
        else:
            self._count()
            self._examples += examples
        self._marks.append((self._seconds, self._examples))
        while len(self._marks) > FEWEST_STEPS + 1 and self._seconds - self._marks[1][0] >= WINDOW_SECONDS:
            self._marks.popleft()

    def read(self) -> float | None:
        """Examples per second; waiting for the device since the last step counts, if it was for steps."""
        self._count()
        return self.last()

    def last(self) -> float | None:
        """As it was when a step ended or it was read, whatever happens now."""
        if len(self._marks) <= FEWEST_STEPS:
            return None
        seconds, examples = self._marks[0]
        spent = self._seconds - seconds
        return round((self._examples - examples) / spent, 3) if spent > 0 else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside is no training."""
        self._count()
        try:
            yield
        finally:
            if self._since is not None:
                self._since = time.monotonic()

    def _count(self) -> None:
        if self._since is not None:
            now = time.monotonic()
            self._seconds += now - self._since
            self._since = now
