"""Checkpoints written behind the training step: a snapshot now, the disk later, in one thread.

The snapshot is a copy of every tensor into kept CPU buffers (pinned when it comes from CUDA), so the next step may
change the weights while the old ones are being written. One snapshot is in flight at a time; the thread touches
the disk and nothing of torch but the bytes of its buffers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from runctl import record
from runctl.config.model import Checkpoint
from runctl.train import checkpoint, retention
from runctl.train.checkpoint import Contents


class Writer:
    """Saves checkpoints and prunes old ones in the background."""

    def __init__(self, run: record.RunDir, config: Checkpoint) -> None:
        self._run, self._config = run, config
        self._buffers: dict[tuple[str, str], Tensor] = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._saved: Path | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def submit(self, contents: Contents) -> None:
        """Copy the tensors and start writing. The caller sees to it that the writer is not busy."""
        if self.busy:
            raise RuntimeError("a checkpoint is still being written")
        contents = replace(contents, tensors=self._snapshot(contents.tensors))
        self._thread = threading.Thread(target=self._write, args=(contents,), name="checkpoint", daemon=True)
        self._thread.start()

    def poll(self) -> Path | None:
        """The checkpoint finished since the last call, if any; raises what its writing raised."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        saved, self._saved = self._saved, None
        return saved

    def wait(self, meanwhile: Callable[[], None]) -> Path | None:
        """Like `poll`, after the write in flight has ended; calls `meanwhile` every half second."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=0.5)
            meanwhile()
        return self.poll()

    def close(self, meanwhile: Callable[[], None]) -> None:
        """Let a write in flight end, whatever becomes of it: the run has ended already."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=0.5)
            meanwhile()

    def _snapshot(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        copies: dict[str, dict[str, Tensor]] = {}
        on_cuda = False
        for file, named in tensors.items():
            copies[file] = {}
            for name, tensor in named.items():
                buffer = self._buffers.get((file, name))
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                    self._buffers[file, name] = buffer
                copies[file][name] = buffer.copy_(tensor.detach(), non_blocking=True)
                on_cuda = on_cuda or tensor.is_cuda
        if on_cuda:
            torch.cuda.synchronize()
        return copies

    def _write(self, contents: Contents) -> None:
        try:
            _sync(self._run.metrics)  # rows of steps before a checkpoint are never written again
            self._saved = checkpoint.save(self._run, contents)
            retention.prune(self._run, self._config)
        except BaseException as error:
            self._error = error


def _sync(path: Path) -> None:
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())
