"""How long an attempt may take: `compute.timeout`, and where a provider ends its machines by itself, less.

On such a machine the attempt has to be saved before the provider's own limit, and what may be tried again is started
on another machine, by the provider. Both are told by the environment:

    RUNCTL_LEASE        when this machine must be done, in seconds of the monotonic clock
    RUNCTL_RESTARTED    set where somebody else starts a failed attempt again
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from runctl import fields
from runctl.units import format_duration

ENDS, RESTARTED = "RUNCTL_LEASE", "RUNCTL_RESTARTED"
TIMED_OUT = "timed out"  # how the reason of such an end begins


def over(config: Mapping[str, Any], seconds: float) -> str:
    """Why an attempt that has taken so many seconds has to end; "" if it has not."""
    timeout, ends = fields.number(config.get("compute"), "timeout"), _ends()
    late = timeout is not None and seconds >= timeout
    if late or (ends is not None and time.monotonic() >= ends):
        said = "the time of its machine" if timeout is None else f"compute.timeout of {format_duration(timeout)}"
        return f"{TIMED_OUT}: {said} is over"
    return ""


def restarted_elsewhere() -> bool:
    """Whether the supervisor leaves it to a provider to start again what has failed."""
    return bool(os.environ.get(RESTARTED))


def _ends() -> float | None:
    try:
        return float(os.environ[ENDS])
    except (KeyError, ValueError):
        return None
