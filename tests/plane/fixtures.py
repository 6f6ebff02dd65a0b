"""Fixtures of the tests that run clients against a plane: `pytest_plugins = ["plane.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plane.clients import Clients
from plane.running import Plane


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with Clients() as running:
        yield running


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane(grace=0.6, timeout_scale=0.02, crash_limit=3) as running:
        yield running


@pytest.fixture
def mount(plane: Plane, tmp_path: Path) -> str:
    """A path that this machine does not have, where namespaces allow it, as it is on Modal."""
    return str(tmp_path / "vol") if plane.way == "links" else "/vol"
