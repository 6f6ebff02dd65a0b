"""A model of PyTorch's CUDA caching allocator: what it reserves of the device for what tensors take.

The rules are those of `c10/cuda/CUDACachingAllocator.cpp` with its default settings. Sizes are rounded up to 512
bytes. Up to 1 MiB comes from segments of 2 MiB, less than 10 MiB from segments of 20 MiB, more from a segment of
its own size rounded up to 2 MiB. The smallest free block that is large enough is taken, and split where more than
1 MiB (of a small segment: 512 bytes) would be left over. A freed block joins its free neighbours, and its segment
stays reserved. When the device refuses a segment, all segments that are wholly free are given back first.

Not modelled: several streams, expandable segments, private pools. Not yet compared with a real device.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

Event = tuple[int, int, int]  # (block, size in bytes, +1 for an allocation or -1 for a release)

ROUND, SMALL, SMALL_SEGMENT = 512, 1 << 20, 2 << 20
MIDDLE, MIDDLE_SEGMENT, LARGE_ROUND = 10 << 20, 20 << 20, 2 << 20


@dataclass(frozen=True)
class Usage:
    """Highest bytes: as tensors asked for, rounded as the allocator counts them, and reserved of the device."""

    requested: int
    allocated: int
    reserved: int


class OutOfMemory(Exception):
    """The device has too little, even after everything unused was given back."""


def replay(events: Iterable[Event], capacity: int | None = None) -> Usage:
    """Run the events through an empty allocator. Raises OutOfMemory if `capacity` bytes do not do."""
    pools = _Pools(capacity)
    live: dict[int, _Block] = {}
    requested = allocated = 0
    highest = [0, 0]
    for key, size, change in events:
        if change > 0 and size:
            block = live[key] = pools.take(size)
            requested += size
            allocated += block.size
            highest = [max(highest[0], requested), max(highest[1], allocated)]
        elif change < 0 and key in live:
            block = live.pop(key)
            requested -= size
            allocated -= block.size
            pools.give(block)
    return Usage(highest[0], highest[1], pools.highest)


def needed(events: list[Event]) -> int:
    """The smallest capacity with which the events do not run out of memory, to 1/256 of what is reserved without
    a limit: unused segments that can be given back are not needed."""
    usage = replay(events)
    low, high = usage.allocated, usage.reserved
    while high - low > max(usage.reserved >> 8, LARGE_ROUND):
        middle = (low + high) // 2
        try:
            replay(events, middle)
            high = middle
        except OutOfMemory:
            low = middle
    return high


class _Block:
    """A piece of a segment; `before` and `after` are its neighbours there."""

    __slots__ = ("after", "before", "free", "number", "size", "small")

    def __init__(self, size: int, number: int, small: bool) -> None:
        self.size, self.number, self.small, self.free = size, number, small, False
        self.before: _Block | None = None
        self.after: _Block | None = None


class _Pools:
    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.reserved = self.highest = 0
        self._numbers = 0
        self._blocks: dict[int, _Block] = {}
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}  # (size, number), in order

    def take(self, size: int) -> _Block:
        size = -(-size // ROUND) * ROUND
        small = size <= SMALL
        free = self._free[small]
        place = bisect_left(free, (size, -1))
        if place < len(free):
            block = self._blocks[free.pop(place)[1]]
            block.free = False
        else:
            block = self._segment(size, small)
        rest = block.size - size
        if rest >= ROUND if small else rest > SMALL:
            self._split(block, size)
        return block

    def give(self, block: _Block) -> None:
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._forget(neighbour)
                self._join(block, neighbour)
        block.free = True
        insort(self._free[block.small], (block.size, block.number))

    def _segment(self, size: int, small: bool) -> _Block:
        wanted = SMALL_SEGMENT if small else MIDDLE_SEGMENT if size < MIDDLE else -(-size // LARGE_ROUND) * LARGE_ROUND
        if self.capacity is not None and self.reserved + wanted > self.capacity:
            self._release()
            if self.reserved + wanted > self.capacity:
                raise OutOfMemory
        self.reserved += wanted
        self.highest = max(self.highest, self.reserved)
        return self._new(wanted, small)

    def _release(self) -> None:
        for block in [self._blocks[number] for free in self._free.values() for _, number in free]:
            if block.before is None and block.after is None:
                self._forget(block)
                del self._blocks[block.number]
                self.reserved -= block.size

    def _new(self, size: int, small: bool) -> _Block:
        self._numbers += 1
        block = self._blocks[self._numbers] = _Block(size, self._numbers, small)
        return block

    def _split(self, block: _Block, size: int) -> None:
        rest = self._new(block.size - size, block.small)
        rest.before, rest.after, rest.free, block.size = block, block.after, True, size
        if block.after is not None:
            block.after.before = rest
        block.after = rest
        insort(self._free[block.small], (rest.size, rest.number))

    def _join(self, block: _Block, neighbour: _Block) -> None:
        block.size += neighbour.size
        if neighbour is block.before:
            block.before = neighbour.before
            if block.before is not None:
                block.before.after = block
        else:
            block.after = neighbour.after
            if block.after is not None:
                block.after.before = block
        del self._blocks[neighbour.number]

    def _forget(self, block: _Block) -> None:
        free = self._free[block.small]
        del free[bisect_left(free, (block.size, block.number))]
