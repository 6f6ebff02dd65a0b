"""Checkpoints written behind the training step: a snapshot now, the disk later, in one thread.

The snapshot is a copy of every tensor into kept CPU buffers (pinned when it comes from CUDA), so the next step may
change the weights while the old ones are being written. One snapshot is in flight at a time; the thread touches
the disk and nothing of torch but the bytes of its buffers. It also looks whether the weights are finite, before it
writes anything: read on the training step, they would make it wait for another pass over memory.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runctl import record
from runctl.config.model import Checkpoint
from runctl.train import checkpoint, retention
from runctl.train.checkpoint import Contents
from runctl.train.sums import NonFinite

_PART = 1 << 20  # numbers that are looked at together


class Writer:
    """Saves checkpoints and prunes old ones in the background."""

    def __init__(self, run: record.RunDir, config: Checkpoint, weights: Collection[str] = ()) -> None:
        """`weights` are the names of the model's tensors that must be finite: a buffer may hold what it likes."""
        self._run, self._config, self._weights = run, config, weights
        self._buffers: dict[tuple[str, str], Tensor] = {}  # by file and name, in the order of the state
        self._names: list[tuple[str, str]] = []
        self._kinds: list[tuple[torch.Size, torch.dtype]] = []
        self._from_cuda = False
        self._thread: threading.Thread | None = None
        self._given: queue.SimpleQueue[Contents | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._error: BaseException | None = None
        self._saved: Path | None = None

    @property
    def busy(self) -> bool:
        return not self._idle.is_set()

    def submit(self, contents: Contents) -> None:
        """Copy the tensors and start writing. The caller sees to it that the writer is not busy."""
        if self.busy:
            raise RuntimeError("a checkpoint is still being written")
        contents = replace(contents, tensors=self._snapshot(contents.tensors))
        self._idle.clear()
        self._given.put(contents)
        if self._thread is None:  # kept: to start one is to wait until it runs, which takes long on a busy machine
            self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
            self._thread.start()

    def poll(self) -> Path | None:
        """The checkpoint finished since the last call, if any; raises what its writing raised."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        saved, self._saved = self._saved, None
        return saved

    def wait(self, meanwhile: Callable[[], None]) -> Path | None:
        """Like `poll`, after the write in flight has ended; calls `meanwhile` every half second."""
        while not self._idle.wait(0.5):
            meanwhile()
        return self.poll()

    def close(self, meanwhile: Callable[[], None]) -> None:
        """Let a write in flight end, whatever becomes of it: the run has ended already."""
        while not self._idle.wait(0.5):
            meanwhile()
        if self._thread is not None:
            self._given.put(None)
            self._thread = None

    def _snapshot(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        live = [tensor for named in tensors.values() for tensor in named.values()]
        kinds = [(tensor.shape, tensor.dtype) for tensor in live]
        names = [(file, name) for file, named in tensors.items() for name in named]
        if kinds != self._kinds or names != self._names:
            self._make_room(names, live)
            self._names, self._kinds = names, kinds
        with torch.no_grad():
            torch._foreach_copy_(list(self._buffers.values()), live, non_blocking=True)
        if self._from_cuda:
            torch.cuda.synchronize()
        copies: dict[str, dict[str, Tensor]] = {file: {} for file in tensors}
        for (file, name), buffer in self._buffers.items():
            copies[file][name] = buffer
        return copies

    def _make_room(self, names: list[tuple[str, str]], live: list[Tensor]) -> None:
        """Buffers in the order of the tensors; those that fit stay."""
        before, self._buffers = self._buffers, {}
        for name, tensor in zip(names, live, strict=True):
            buffer = before.pop(name, None)
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[name] = buffer
        self._from_cuda = any(tensor.is_cuda for tensor in live)

    def _work(self) -> None:
        while (contents := self._given.get()) is not None:
            self._write(contents)
            del contents
            self._idle.set()

    def _write(self, contents: Contents) -> None:
        try:
            if not all(_finite(contents.tensors["model"][name]) for name in self._weights):
                raise NonFinite("weights", contents.step)
            _sync(self._run.metrics)  # rows of steps before a checkpoint are never written again
            self._saved = checkpoint.save(self._run, contents)
            retention.prune(self._run, self._config)
        except BaseException as error:
            self._error = error


def _finite(tensor: Tensor) -> bool:
    """Whether every number of a CPU tensor is finite. By numpy: torch would start threads of its own for this one."""
    if not tensor.is_floating_point():
        return True
    flat = tensor.reshape(-1)
    numbers = (flat.view(torch.int16) if tensor.dtype == torch.bfloat16 else flat).numpy()
    parts = (numbers[start : start + _PART] for start in range(0, len(numbers), _PART))
    if tensor.dtype == torch.bfloat16:  # numpy has none: not finite are those whose exponent has all bits
        return all(bool((part & 0x7F80 != 0x7F80).all()) for part in parts)
    return all(bool(np.isfinite(part).all()) for part in parts)


def _sync(path: Path) -> None:
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())
