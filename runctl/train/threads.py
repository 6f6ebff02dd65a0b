"""With how many threads a step is faster here: with one, or with all that the process may use.

Short windows make small products, and threads that wait for each other cost more than they bring; two cores of which
each is half of one bring less than two. So it is tried on the real step, in turn, which what else runs on the machine
slows alike.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from runctl.units import counted, format_short

if TYPE_CHECKING:
    from runctl.train.loop import Loop

SHARE = 0.1  # of a probe's time
FEWEST = 5  # steps of each
CLEAR = 0.03  # a difference below it is none


@dataclass(frozen=True)
class Threads:
    """Median seconds of a step by number of threads, and the number that the config asks for (None: all)."""

    seconds: dict[int, float]
    asked: int | None

    @property
    def best(self) -> int:
        """The fastest; of those that are as fast, the one that the run would have, else the fewest."""
        fastest = min(self.seconds.values())
        close = [count for count, took in sorted(self.seconds.items()) if took <= fastest * (1 + CLEAR)]
        return self.used if self.used in close else close[0]

    @property
    def used(self) -> int:
        return self.asked or max(self.seconds)

    def words(self) -> str:
        """What was measured, and what to do about it."""
        told = ", ".join(
            f"{format_short(took)} with {counted(count, 'thread')}" for count, took in self.seconds.items()
        )
        if self.best == self.used:
            return f"a step takes {told}: as fast as it gets"
        wanted = "null (all)" if self.best == max(self.seconds) else str(self.best)
        return f"a step takes {told}: faster with training.threads: {wanted}"


def compare(loop: Loop, seconds: float) -> Threads | None:
    """Real steps in turn with one thread, with all and with what the config asks for; None where there is no choice
    (one core, or another device than the CPU). The number is what it was afterwards."""
    asked, cores = loop.config.training.threads, len(os.sched_getaffinity(0))
    counts = sorted({1, cores, *([asked] if asked else [])})
    if loop.place.device.type != "cpu" or len(counts) < 2 or loop.ranks.seat.size > 1:
        return None
    before = torch.get_num_threads()
    taken: dict[int, list[float]] = {count: [] for count in counts}
    until = time.monotonic() + SHARE * seconds
    try:
        while len(taken[counts[0]]) <= FEWEST or time.monotonic() < until:
            for count in counts:
                torch.set_num_threads(count)
                began = time.perf_counter()
                loop.step()
                taken[count].append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return Threads({count: statistics.median(found[1:]) for count, found in taken.items()}, asked)
