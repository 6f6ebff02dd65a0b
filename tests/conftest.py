"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A suite that was started in the background inherits an ignored SIGINT, and so would every process that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def replays() -> Path:
    """A folder of real replays: $RUNCTL_REPLAYS, else `../shared/slp` beside the checkout. None are in the project."""
    return _folder("RUNCTL_REPLAYS", "slp")


@pytest.fixture
def odd_replays() -> Path:
    """A folder of broken and odd replays: $RUNCTL_ODD_REPLAYS, else `../shared/slp_odd`."""
    return _folder("RUNCTL_ODD_REPLAYS", "slp_odd")


def _folder(variable: str, name: str) -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / name
    path = Path(os.environ.get(variable) or beside)
    if not path.is_dir():
        pytest.skip(f"no real replays here: set {variable} to a folder of them")
    return path
