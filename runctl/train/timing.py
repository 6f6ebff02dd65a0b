"""What the parts of this attempt really take: steps, data, validations, checkpoints; written as `measured.json`.

The clock is the host's and nothing waits for the device: on CUDA a single step's time is that of launching it, but
the queue is short, so the mean over many steps is the device's own pace.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import deque

BORN = time.monotonic()  # imported before torch, so that importing torch is part of the start-up
WARM_UP = 3  # steps that are not counted: the first ones allocate, and create the optimizer's state
ENOUGH = 20  # steps that make a measurement
BLOCK_SECONDS = 1.0
MOST_BLOCKS = 16  # then neighbours are joined, so that a block is always a tenth of what was measured, or about
WRITE_SECONDS = 5.0
UNSURE = 0.15  # the spread of a measurement that is too short to have one
_KEPT = 2048


class Timing:
    """Durations of one attempt. Seconds throughout."""

    def __init__(self) -> None:
        self.startup: float | None = None
        self.steps = 0
        self.examples = 0
        self.seconds = 0.0
        self.data_seconds = 0.0
        self.validated = 0
        self.validation_seconds = 0.0
        self.stall: list[float] = []
        self.write: list[float] = []
        self._skipped = 0
        self._data = 0.0
        self._recent: deque[float] = deque(maxlen=_KEPT)
        self._blocks: list[tuple[int, float]] = []  # (steps, seconds)
        self._block = (0, 0.0)
        self._block_seconds = BLOCK_SECONDS
        self._last = time.monotonic()
        self.written = 0.0  # when a record was last written

    def go(self) -> None:
        """Training goes on now: what went by since the last step is none of it."""
        if self.startup is None:
            self.startup = time.monotonic() - BORN
        self._last = time.monotonic()
        self._data = 0.0

    def data(self, seconds: float) -> None:
        """Time that the running step waited for its windows."""
        self._data += seconds

    def wait(self) -> None:
        """The device was waited for after the last step: that belongs to the steps as well."""
        now = time.monotonic()
        if self.steps:
            self.seconds += now - self._last
            self._block = (self._block[0], self._block[1] + now - self._last)
        self._last = now

    def step(self, examples: int = 1) -> None:
        """One optimizer step over so many windows has ended."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        waited, self._data = self._data, 0.0
        if self._skipped < WARM_UP:
            self._skipped += 1
            return
        self.steps += 1
        self.examples += examples
        self.seconds += seconds
        self.data_seconds += waited
        self._recent.append(seconds)
        count, took = self._block[0] + 1, self._block[1] + seconds
        if took >= self._block_seconds:
            self._blocks.append((count, took))
            count, took = 0, 0.0
        self._block = (count, took)
        if len(self._blocks) == MOST_BLOCKS:
            pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
            self._blocks = [(one[0] + two[0], one[1] + two[1]) for one, two in pairs]
            self._block_seconds *= 2

    def validation(self, seconds: float, windows: int) -> None:
        self.validation_seconds += seconds
        self.validated += windows

    def due(self) -> bool:
        """Whether there is enough for a record, and the last one is some seconds old."""
        now = time.monotonic()
        if not self.enough or now - self.written < WRITE_SECONDS:
            return False
        self.written = now
        return True

    @property
    def enough(self) -> bool:
        return self.steps >= ENOUGH and self.seconds > 0

    def step_seconds(self) -> float:
        """The mean over all counted steps."""
        return self.seconds / self.steps

    def step_examples(self) -> float:
        """Windows of a step, on average: an epoch's last step takes what is left."""
        return self.examples / self.steps

    def spread(self) -> float:
        """How sure the mean is, as a share of it: two standard errors over the blocks, where four neighbours count as
        one, because what slows a machine down stays for a while. UNSURE where there are too few blocks."""
        if len(self._blocks) < 4:
            return UNSURE
        means = [seconds / steps for steps, seconds in self._blocks]
        return 2 * statistics.stdev(means) / math.sqrt(len(means) / 4) / self.step_seconds()

    def quantiles(self) -> tuple[float, float, float]:
        """(10 %, 50 %, 90 %) of the last steps."""
        ordered = sorted(self._recent)
        return tuple(ordered[round(share * (len(ordered) - 1))] for share in (0.1, 0.5, 0.9))  # type: ignore[return-value]


def load() -> float | None:
    """The machine's load average over the last minute, where it has one."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None
