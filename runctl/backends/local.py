"""The local backend: the supervisor as a detached process of this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runctl import evidence, install, record
from runctl.backends import Request
from runctl.config.identity import to_effective
from runctl.errors import ProviderError
from runctl.supervisor import starting
from runctl.supervisor.process import TERMINAL, importable

if TYPE_CHECKING:
    from runctl.config import RunConfig

TRAINER = [sys.executable, "-P", "-m", "runctl.train"]


def plan(config: RunConfig, run_dir: Path, attempt: int, project: Path, grace_seconds: float) -> Request:
    """What would be started for an attempt. `python -P`: a project's own `json.py` must not shadow the library's."""
    supervisor = [sys.executable, "-P", "-m", "runctl.supervisor", str(run_dir), "--attempt", str(attempt)]
    if config.task == "command" and config.command is not None:
        trainer, folder = starting.preview(run_dir, {"config": to_effective(config)}, attempt)
        cwd = project / folder
    else:
        trainer, cwd = [*TRAINER, str(run_dir), "--attempt", str(attempt)], project
    asked = [key for key in ("cpu", "memory", "disk") if getattr(config.compute, key) is not None]
    notes = [f"the local backend does not limit compute.{key}" for key in asked]
    return Request(
        backend="local",
        run=run_dir.name,
        run_dir=str(run_dir),
        attempt=attempt,
        supervisor=[*supervisor, "--grace", f"{grace_seconds:g}"],
        trainer=trainer,
        cwd=str(cwd),
        log=str(record.RunDir(run_dir).attempt(attempt).log),
        timeout_seconds=config.compute.timeout,
        grace_seconds=grace_seconds,
        notes=notes,
    )


def submit(request: Request) -> int:
    """Start the supervisor in a session of its own, so that no terminal's end reaches it; returns its pid.

    Raises ProviderError where the built-in trainer could not even import torch."""
    if request.trainer[: len(TRAINER)] == TRAINER and importlib.util.find_spec("torch") is None:
        raise ProviderError("this environment cannot train: torch is not installed", hint=install.hint("train"))
    run = record.RunDir(Path(request.run_dir))
    pid = _detached(request.supervisor, run)
    _name(run.attempt(request.attempt), pid)
    return pid


def _name(attempt: record.Attempt, pid: int) -> None:
    """Say in start.json which process is to own the attempt: if it ends before its first event, `status` can tell."""
    own, start = evidence.identify(pid), record.read_object(attempt.start)
    if own is not None and start:
        with suppress(OSError):
            record.write_json(attempt.start, {**start, "supervisor": own.to_json()})


def stop(supervisor: evidence.Identity) -> bool:
    """SIGTERM to a supervisor, if it lives here; raises PermissionError if it is another user's."""
    return evidence.send(supervisor, signal.SIGTERM)


_closers: dict[Path, int] = {}  # the closers that this process started, by run


def end_leftover(run: record.RunDir, attempt: int, grace_seconds: float) -> None:
    """Start a closer for an attempt whose supervisor is lost: it ends the trainer's group and writes the record.
    Safe to call at any time and often: the run's lock lets one of them work."""
    if run.path in _closers and _still_runs(_closers[run.path]):
        return
    argv = [sys.executable, "-P", "-m", "runctl.supervisor", str(run.path), "--attempt", str(attempt)]
    with suppress(OSError):
        _closers[run.path] = _detached([*argv, "--grace", f"{grace_seconds:g}", "--close"], run)


def commit(run: record.RunDir) -> None:
    """Nothing: the run directory is on this machine's own disk, and its files were flushed as they were written."""


def _still_runs(child: int) -> bool:
    """Whether a process that this one started has not ended; reaps it if it has."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _detached(argv: list[str], run: record.RunDir) -> int:
    """Start a supervisor in a session of its own. Signals are blocked meanwhile: a Ctrl-C that reaches the whole
    group between the fork and the new session would kill it unseen. It unblocks them itself, and forgets those."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
    try:
        with open(run.supervisor_log, "ab", opener=record.no_link) as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=importable(dict(os.environ)),
                start_new_session=True,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process.returncode = 0  # its end is read from its record; Popen must neither wait for it nor complain
    return process.pid
