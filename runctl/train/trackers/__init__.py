"""Where a run's metrics go: the local record always, and what `tracking` asks for besides.

A tracker outside is a guest: whatever fails in it is said in the heartbeat, and the run goes on.
"""

from __future__ import annotations

from typing import Any, Protocol

from runctl import record
from runctl.config import RunConfig
from runctl.train.trackers.local import Local


class Tracker(Protocol):
    """A guest. None of its calls raises or waits."""

    def log(self, row: dict[str, Any]) -> None: ...

    def status(self) -> str:
        """`disabled`, `offline`, `online`, or `failed: why`."""

    def finish(self, outcome: str, timeout: float) -> None:
        """Send what is left, for at most `timeout` seconds."""


class Trackers:
    """The local record and the guests, behind one `log`."""

    def __init__(self, local: Local, guests: dict[str, Tracker], idle: dict[str, str]) -> None:
        self._local, self._guests, self._idle = local, guests, idle

    def log(self, row: dict[str, Any]) -> None:
        """Write a row to the record (raises OSError), then hand it to the guests."""
        self._local.log(row)
        for guest in self._guests.values():
            guest.log(row)

    def status(self) -> dict[str, str]:
        return self._idle | {name: guest.status() for name, guest in self._guests.items()}

    def finish(self, outcome: str, timeout: float = 30.0) -> None:
        for guest in self._guests.values():
            guest.finish(outcome, timeout)


class Silent(Trackers):
    """Of a process that is not the first of several: the first one keeps the record."""

    def __init__(self) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        pass

    def status(self) -> dict[str, str]:
        return {}

    def finish(self, outcome: str, timeout: float = 30.0) -> None:
        pass


def start(config: RunConfig, effective: dict[str, Any], run: record.RunDir) -> Trackers:
    """The trackers that the config asks for. `effective` is the config as the run records it."""
    if config.tracking.wandb == "disabled":
        return Trackers(Local(run), {}, {"wandb": "disabled"})
    from runctl.train.trackers.wandb_ import Wandb

    return Trackers(Local(run), {"wandb": Wandb(config, effective, run)}, {})
