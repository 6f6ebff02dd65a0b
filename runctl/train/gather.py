"""A batch of windows from the memory-mapped record array, in one call: no per-sample Python.

    records (N, R) uint8  --as_strided-->  (N-K, (K+1)·R)  --index_select(out=)-->  (B, K+1, R) uint8

Row s of the strided view is the K+1 records that begin at record s; neighbouring rows overlap, so the view costs
no memory. Rows are copied as 32-bit words (R is a multiple of 4) into a buffer that is kept: page faults of a
fresh buffer cost more than the copy itself. On CUDA the records move to the device once if they fit into a part
of its free memory; otherwise the host gathers into one of two pinned buffers and the copy overlaps the compute.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

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
        if self.resident:
            words = words.to(device)
        width = self.record_bytes // 4
        self._view = words.as_strided((count - length + 1, length * width), (width, 1))
        self._buffers: list[Tensor] = []
        self._copied: list[Any] = []
        self._turn = 0

    def __call__(self, starts: Tensor) -> Tensor:
        """(B, length, R) uint8 on the device for `starts` (B,) int64: the first record of each window."""
        if self.resident:
            out = self._buffer(0, len(starts), self.device)
            torch.index_select(self._view, 0, starts.to(self.device, non_blocking=True), out=out)
            return self._shape(out)
        self._turn = 1 - self._turn
        out = self._buffer(self._turn, len(starts), torch.device("cpu"))
        self._copied[self._turn].synchronize()
        torch.index_select(self._view, 0, starts.cpu(), out=out)
        moved = out.to(self.device, non_blocking=True)
        self._copied[self._turn].record()
        return self._shape(moved)

    def _shape(self, words: Tensor) -> Tensor:
        return words.view(torch.uint8).view(len(words), self.length, self.record_bytes)

    def _buffer(self, slot: int, rows: int, device: torch.device) -> Tensor:
        pinned = self.device.type == "cuda" and device.type == "cpu"
        while len(self._buffers) <= slot:
            self._buffers.append(torch.empty(0, self._view.shape[1], dtype=torch.int32, device=device))
            self._copied.append(torch.cuda.Event() if pinned else None)
        if len(self._buffers[slot]) < rows:
            shape = (rows, self._view.shape[1])
            self._buffers[slot] = torch.empty(shape, dtype=torch.int32, device=device, pin_memory=pinned)
        return self._buffers[slot][:rows]


def _fits(size_bytes: int, device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    return size_bytes <= RESIDENT_SHARE * float(free)
