"""What the outside asks of the trainer: signals, and the death of the supervisor.

SIGTERM and SIGINT ask it to stop after the current step, SIGUSR1 to save a checkpoint after it. Handlers only set
a flag that the loop reads; nothing is saved from within a handler. The parent's pid is compared at each look, so
that the death of the supervisor is seen everywhere (on Linux the kernel also sends SIGTERM: supervisor/process.py).
"""

from __future__ import annotations

import os
import signal
from types import FrameType


class Stopped(Exception):
    """Raised where the trainer is asked to stop and there is nothing to save yet."""


class Control:
    """Flags set by signals. Made before torch is imported, so that no early signal is lost."""

    def __init__(self) -> None:
        self._stop_signal: int | None = None
        self._save = False
        self._parent = os.getppid()

    def install(self) -> None:
        """Take over the signals of this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_save)

    @property
    def parent_lost(self) -> bool:
        return os.getppid() != self._parent

    @property
    def stopping(self) -> bool:
        return self._stop_signal is not None or self.parent_lost

    @property
    def reason(self) -> str:
        """Why the trainer stops: `supervisor lost`, or the signal's name."""
        if self.parent_lost:
            return "supervisor lost"
        return signal.Signals(self._stop_signal).name if self._stop_signal is not None else ""

    def check(self) -> None:
        """Raise Stopped if asked to stop; for phases in which nothing needs saving."""
        if self.stopping:
            raise Stopped(self.reason)

    def take_save_request(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked, self._save = self._save, False
        return asked

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_signal = number

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self._save = True
