"""A slow change for the worse: all values of a series, however many, as a few means; from quarter to quarter.

Why quarters and not the last value against the first: the first validation or checkpoint lifts the memory once, and
a noisy neighbour slows a minute. What leaks, or grows with every step, is worse in each quarter than in the one before.
"""

from __future__ import annotations

import itertools

MOST = 64  # means that are kept; then two become one, and each later one stands for twice as many values
LEAST = 16
_STEADY = 8.0  # each quarter is worse than the one before by at least this part of the limit


class History:
    """The values of a series as means of equally many, in order."""

    def __init__(self) -> None:
        self.means: list[float] = []
        self.each, self.count, self.sum = 1, 0, 0.0

    def add(self, value: float) -> None:
        self.count, self.sum = self.count + 1, self.sum + value
        if self.count < self.each:
            return
        self.means.append(self.sum / self.count)
        self.count, self.sum = 0, 0.0
        if len(self.means) == MOST:
            pairs = zip(self.means[::2], self.means[1::2], strict=True)
            self.means = [(first + second) / 2 for first, second in pairs]
            self.each *= 2

    def quarters(self) -> list[float]:
        """The median of each quarter; [] while there is too little to tell."""
        if len(self.means) < LEAST:
            return []
        size = len(self.means) // 4
        late = self.means[len(self.means) - 4 * size :]
        return [sorted(late[at : at + size])[size // 2] for at in range(0, 4 * size, size)]


def worse(quarters: list[float], limit: float, falls: bool) -> tuple[bool, float]:
    """(whether the last quarter is worse than the first by more than `limit`, a share of it, and each is worse than the
    one before; by how much). `falls`: less is worse."""
    if not quarters or quarters[0] <= 0:
        return False, 0.0
    sign, first = (-1.0 if falls else 1.0), quarters[0]
    steps = [sign * (later - earlier) / first for earlier, later in itertools.pairwise(quarters)]
    change = sum(steps)
    return change > limit and min(steps) > limit / _STEADY, change
