"""Runs with the fake trainer, for tests: a run directory by hand, its supervisor, and waiting without luck."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runctl import evidence, record, status
from runctl.backends import local
from runctl.starting import write_start

FAKE = str(Path(__file__).parent / "fake_trainer.py")
_PATIENCE_SECONDS = 20.0


def make(project: Path, *options: object, name: str = "run", **config: Any) -> record.RunDir:
    """A run of `fake_trainer.py OPTIONS`, with its record and the folder of attempt 1, not started."""
    run = record.RunDir(project / "runs" / name)
    data = {"task": "worldmodel", "checkpoint": {"metric": "val/loss", "mode": "min"}, **config}
    command = [sys.executable, FAKE, *map(str, options)]
    entry = {"schema_version": 1, "name": name, "created": time.time(), "backend": "local", "project": str(project)}
    record.write_json(run.run, entry | {"command": command, "config": data})
    write_start(run.attempt(1).path, from_step=0, checkpoint=None, code=None)
    return run


@contextmanager
def supervised(run: record.RunDir, attempt: int = 1, grace: float = 5.0, backoff: float = 10.0) -> Iterator[int]:
    """The run's supervisor, detached as the local backend does it; whatever of it lives at the end is killed."""
    argv = [
        sys.executable,
        "-P",
        "-m",
        "runctl.supervisor",
        str(run.path),
        "--attempt",
        str(attempt),
        "--grace",
        str(grace),
        "--backoff",
        str(backoff),
    ]
    pid = local._detached(argv, run)
    try:
        yield pid
    finally:
        clean(run)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # one that has not written its first event yet
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def clean(run: record.RunDir) -> None:
    """Kill the processes that a run's events name, each only if it is still the very same, and see them gone."""
    rows = [row.get(key) for row in record.read_lines(run.events) for key in ("supervisor", "trainer")]
    named = [identity for identity in map(evidence.from_json, rows) if identity is not None]
    for identity in named:
        evidence.send(identity, signal.SIGKILL)
        for pid in evidence.members(identity.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(evidence.life(identity) is evidence.Life.ALIVE for identity in named):
        assert time.monotonic() < deadline, f"cannot kill {named}"
        time.sleep(0.01)


def until(
    run: record.RunDir, wanted: Callable[[status.RunStatus], bool], seconds: float = _PATIENCE_SECONDS
) -> status.RunStatus:
    """The first status that is as wanted; fails with the last one if there is none in 20 s."""
    deadline = time.monotonic() + seconds
    while True:
        found = status.observe(run, grace_seconds=1.0)
        if wanted(found):
            return found
        assert time.monotonic() < deadline, f"{found}\n{supervisor_log(run)}"
        time.sleep(0.02)


def in_state(*states: str) -> Callable[[status.RunStatus], bool]:
    return lambda found: found.state in states


def pids(run: record.RunDir) -> tuple[int, int]:
    """The pids of the newest attempt's supervisor and trainer."""
    supervisor, trainer = status.identities(status.load(run))
    assert supervisor is not None
    assert trainer is not None
    return supervisor.pid, trainer.pid


def events(run: record.RunDir) -> list[str]:
    return [row["event"] for row in record.read_lines(run.events)]


def alive(pid: int) -> bool:
    return evidence.identify(pid) is not None


def supervisor_log(run: record.RunDir) -> str:
    return run.supervisor_log.read_text() if run.supervisor_log.is_file() else ""
