"""A memory-mapped file of which a process holds no more than it should.

Pages that were read once stay mapped: a process that reads windows from everywhere in 400 GB would seem to hold all of
the machine's memory, for its own guards and for whoever ends jobs by their resident size. A map that is larger than a
share of the memory is therefore told that it is read at random, which keeps the kernel from reading 128 KiB around each
window, and is unmapped now and then. What was read stays in the page cache as long as there is room: a page that is
asked for again is mapped again, in less than a microsecond.
"""

from __future__ import annotations

import mmap
from typing import Any

from runctl import machine

SHARE = 0.25  # of the memory that this process may use
_UNKNOWN = 4 << 30  # taken for the memory where the machine does not say


class Mapped:
    """The map below an array, if there is one."""

    def __init__(self, array: Any) -> None:
        base = getattr(array, "base", None)
        self.limit_bytes = int(SHARE * (machine.memory_bytes() or _UNKNOWN))
        self._map = base if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM") else None
        self.large = self._map is not None and array.nbytes > self.limit_bytes
        self._read = 0
        if self.large and self._map is not None:
            self._map.madvise(mmap.MADV_RANDOM)

    def read(self, windows: int, window_bytes: int) -> None:
        """So many windows were read, from anywhere."""
        if self.large:
            self._read += windows * (window_bytes // mmap.PAGESIZE + 2) * mmap.PAGESIZE
            if self._read > self.limit_bytes:
                self.release()

    def release(self) -> None:
        """Hold none of the pages; they are read again where they are asked for."""
        self._read = 0
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
