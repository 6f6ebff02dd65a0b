"""How an attempt begins, by launch and resume alike: its start.json, and the moment in which no Ctrl-C may fall."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runctl import evidence, record
from runctl.supervisor import room


def write_start(
    folder: Path,
    *,
    from_step: int,
    checkpoint: dict[str, Any] | None,
    code: dict[str, Any] | None,
    more: dict[str, Any] | None = None,
) -> None:
    """start.json in an attempt's folder: who asked for it, when, from which checkpoint and with what changed config
    (`more`); and room for its end."""
    own = evidence.identify()
    entry = {
        "schema_version": record.SCHEMA_VERSION,
        "time": time.time(),
        "launcher": own.to_json() if own else None,
        "from_step": from_step,
        "checkpoint": checkpoint,
        "code": code,
    }
    record.write_json(folder / "start.json", entry | (more or {}))
    room.reserve(folder)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and its like for a short while; the first of them arrives right after. May be nested.

    Why handlers and not a signal mask: a mask covers one thread, and would be inherited by what is started here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda got, frame: arrived.append(got))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if arrived:
            signal.raise_signal(arrived[0])
