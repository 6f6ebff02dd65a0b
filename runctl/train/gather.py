"""A batch of windows from the memory-mapped record array, in one call: no per-sample Python.

    records (N, R) uint8  --as_strided-->  (N-K, (K+1)·R)  --index_select(out=)-->  (B, K+1, R) uint8

Row s of the strided view is the K+1 records that begin at record s; neighbouring rows overlap, so the view costs
no memory. Rows are copied as 32-bit words (R is a multiple of 4) into a buffer that is kept: page faults of a
fresh buffer cost more than the copy itself.

On CUDA the records move to the device once if they fit into a part of its free memory. Otherwise one thread fills the
next of two pinned buffers while the device computes on the last one, and the copy needs no waiting. On the CPU the same
thread reads ahead where the dataset is too large to stay in memory, so that a step waits for no disk: where all of it
is in memory a copy takes a thousandth of a step, and a second thread would only take its core.

What a large map leaves resident is bounded too: see `mapped`.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from runctl.train.mapped import Mapped
from runctl.train.reader import Reader

RESIDENT_SHARE = 0.4  # of the device's free memory at start; the rest is for weights and activations


class Gather:
    """Windows of `length` records each. The tensor that a call returns is overwritten by the next call."""

    def __init__(self, records: Any, length: int, device: torch.device) -> None:
        """`records`: C-contiguous uint8 array (N, R), usually a memory map; raises ValueError if N < length."""
        count, self.record_bytes = records.shape
        if count < length or self.record_bytes % 4:
            raise ValueError(f"{count} records of {self.record_bytes} bytes hold no window of {length}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a read-only map is what is wanted: nothing writes to it
            words = torch.from_numpy(records).view(torch.int32)
        self.length, self.device = length, device
        self.resident = device.type == "cpu" or _fits(records.nbytes, device)
        self.map = Mapped(records)
        self.reads_ahead = not self.resident or (device.type == "cpu" and self.map.large)
        if self.resident and device.type != "cpu":
            words = words.to(device)
            self.map.release()
        width = self.record_bytes // 4
        self._view = words.as_strided((count - length + 1, length * width), (width, 1))
        slots = 2 if self.reads_ahead else 1
        place = device if self.resident else torch.device("cpu")
        self._buffers = [torch.empty(0, length * width, dtype=torch.int32, device=place) for _ in range(slots)]
        self._copied = [None if self.resident else torch.cuda.Event() for _ in range(slots)]
        self._turn = 0
        self._reader: Reader | None = None
        self._coming: Tensor | None = None  # the starts of what the reader reads

    def __call__(self, starts: Tensor) -> Tensor:
        """(B, length, R) uint8 on the device for `starts` (B,) int64: the first record of each window."""
        there = self._await(starts)
        self._turn = (self._turn + 1) % len(self._buffers)
        if not there:
            self._fill(self._turn, starts)
        out = self._buffers[self._turn][: len(starts)]
        if not self.resident:
            moved = out.to(self.device, non_blocking=True)
            self._copied[self._turn].record()
            out = moved
        return out.view(torch.uint8).view(len(out), self.length, self.record_bytes)

    def ahead(self, starts: Tensor) -> None:
        """Begin to read what the next call will ask for; where it asks for something else, this was in vain. Nothing
        happens where reading ahead does not pay."""
        if not self.reads_ahead:
            return
        if self._reader is None:
            self._reader = Reader()
        self._await(None)
        slot = (self._turn + 1) % len(self._buffers)
        self._coming = starts
        self._reader.begin(lambda: self._fill(slot, starts))

    def close(self) -> None:
        """End the thread, if there is one; the next call of `ahead` starts another."""
        if self._reader is not None:
            self._await(None)
            self._reader.close()
            self._reader = None

    def _await(self, starts: Tensor | None) -> bool:
        """Whether the reader has read these windows; none is at work afterwards."""
        if self._coming is None or self._reader is None:
            return False
        coming, self._coming = self._coming, None
        self._reader.wait()
        return starts is not None and torch.equal(coming, starts)

    def _fill(self, slot: int, starts: Tensor) -> None:
        if self._copied[slot] is not None:
            self._copied[slot].synchronize()  # until the device has taken what was in this buffer
        if len(self._buffers[slot]) < len(starts):
            shape = (len(starts), self._view.shape[1])
            place = self._buffers[slot].device
            self._buffers[slot] = torch.empty(shape, dtype=torch.int32, device=place, pin_memory=not self.resident)
        out = self._buffers[slot][: len(starts)]
        torch.index_select(self._view, 0, starts.to(self._view.device, non_blocking=True), out=out)
        if self._view.device.type == "cpu":
            self.map.read(len(starts), self._view.shape[1] * 4)


def _fits(size_bytes: int, device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    return size_bytes <= RESIDENT_SHARE * float(free)
