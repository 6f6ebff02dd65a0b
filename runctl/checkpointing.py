"""A checkpoint now: ask a running run for one, and wait until it lies on the disk, every byte of it verified."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runctl import backends, fields, record, status
from runctl.errors import CheckpointError, RefusedError, RunctlError, RunFailed, UsageError, WaitTimeout
from runctl.light import asdict, dataclass
from runctl.supervisor.summary import checkpoints, newest_checkpoint
from runctl.units import format_duration

ANSWER_SECONDS = 15.0
REMOTE_SECONDS = 60.0  # over a provider: the container listens every two seconds, and a commit may take its time
_LOOK_SECONDS, _REMOTE_LOOK_SECONDS = 0.1, 0.5
_CHUNK = 8 << 20
_THERE = "it is on the volume, as long as its manifest says; by sha256 once it is pulled"


@dataclass(frozen=True)
class Request:
    """A request that the supervisor has passed on, at `time`, when the run was at `step`."""

    run: str
    attempt: int
    id: str
    by: str
    time: float
    step: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Saved:
    """A checkpoint on the disk. `verified` says how: by the sha256 of its manifest, or that it is only there, as of a
    program that keeps its own."""

    step: int
    path: Path | None
    bytes: int | None
    verified: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path) if self.path else None, "seconds": round(self.seconds, 3)}


def ask(run: record.RunDir, timeout_seconds: float | None = None) -> Request:
    """Ask for a checkpoint; returns once the supervisor has passed that on. A run before its first step is waited for.
    On a provider's machines the request and the answer take some seconds each.

    Raises UsageError for a run that does not train, RefusedError where its program cannot be asked or the run is
    another user's, WaitTimeout if the supervisor does not answer; ProviderError.
    """
    found = status.observe(run)
    _check(found)
    number, away = found.attempt, run.remote.exists()
    name, by = uuid.uuid4().hex, _who()
    request = {"schema_version": record.SCHEMA_VERSION, "id": name, "by": by, "time": time.time()}
    if away:
        backends.remote(status.backend_of(run)).request_save(run, request)
    else:
        _write(run.attempt(number), request)
    patience = REMOTE_SECONDS if away else ANSWER_SECONDS
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    answer_by = time.monotonic() + patience
    while True:
        row = next((row for row in record.read_lines(run.events) if row.get("id") == name), None)
        if row is not None and row.get("event") == "checkpoint_refused":
            raise RefusedError(f"{run.name} was not asked: {fields.text(row, 'reason')}", hint=_instead(found))
        if row is not None:
            at = fields.number(row, "time") or time.time()
            return Request(run.name, fields.whole(row, "attempt") or number, name, by, at, fields.whole(row, "step"))
        found = status.observe(run)
        if found.over or (found.attempt != number and not away):  # there the next container hears of it, too
            _withdraw(run, number)
            raise UsageError(f"{run.name} ended before it could be asked: {_told(found)}", hint=_instead(found))
        waits = not found.first_step
        if deadline is not None and time.monotonic() >= deadline and waits:
            _withdraw(run, number)
            raise WaitTimeout(f"{run.name} has made no step within {format_duration(timeout_seconds or 0.0)}")
        if not waits and time.monotonic() >= answer_by:
            raise _unanswered(run, number, patience)
        if waits:
            answer_by = time.monotonic() + patience
        time.sleep(_REMOTE_LOOK_SECONDS if away else _LOOK_SECONDS)


def _unanswered(run: record.RunDir, number: int, patience: float) -> WaitTimeout:
    """Nobody has confirmed a request: here it is taken back, there it may be on its way."""
    if run.remote.exists():
        said = f"{run.name} was asked for a checkpoint, and has not confirmed it within {format_duration(patience)}"
        return WaitTimeout(f"{said}; the request stands", hint=f"see: runctl status {run.name}")
    _withdraw(run, number)
    hint = "was it started by an older runctl, or is its supervisor stopped? see: runctl doctor"
    return WaitTimeout(f"the supervisor of {run.name} does not answer; nothing was asked", hint=hint)


def wait(run: record.RunDir, asked: Request, timeout_seconds: float | None = None) -> Saved:
    """Wait for the checkpoint that was asked for. Raises RunFailed if the run ends without it, CheckpointError if it
    is not what its manifest says, WaitTimeout; the request stands then."""
    began = time.monotonic()
    while True:
        found = status.observe(run)
        if saved := _saved(run, asked, found):
            return _verified(run, saved, time.monotonic() - began)
        if found.over or found.attempt != asked.attempt:
            raise RunFailed(f"{run.name} ended without that checkpoint: {_told(found)}", hint=f"runctl why {run.name}")
        if timeout_seconds is not None and time.monotonic() - began >= timeout_seconds:
            raise WaitTimeout(
                f"{run.name} has not saved within {format_duration(timeout_seconds)}; it will after its step",
                hint=f"see: runctl status {run.name}",
            )
        time.sleep(_LOOK_SECONDS)


def verify(folder: Path) -> int:
    """The bytes of a checkpoint, each file compared with the sha256 in its manifest. Raises CheckpointError."""
    files = record.read_object(folder / "manifest.json").get("files")
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"checkpoint {folder.name} has no readable manifest.json")
    size = 0
    for name, expected in files.items():
        wanted = fields.text(expected, "sha256")
        if Path(name).name != name or wanted is None:
            raise CheckpointError(f"checkpoint {folder.name} has a manifest that names {name!r}")
        digest = hashlib.sha256()
        try:
            with record.open_file(folder / name) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise CheckpointError(f"checkpoint {folder.name}: {name}: {error.strerror}") from None
        if digest.hexdigest() != wanted:
            raise CheckpointError(f"checkpoint {folder.name} is damaged: {name} differs from its sha256")
    return size


def _check(found: status.RunStatus) -> None:
    if found.over:
        raise UsageError(f"{found.run} is not running: {_told(found)}", hint=_instead(found))
    if found.state == "stopping":
        raise UsageError(f"{found.run} is stopping: {found.reason}", hint="it saves a checkpoint as it ends")


def _told(found: status.RunStatus) -> str:
    if found.active:  # another attempt of it
        return f"attempt {found.attempt} has begun"
    return found.state + (f": {found.reason}" if found.reason else "")


def _instead(found: status.RunStatus) -> str:
    if found.active and found.task == "command":
        return "a program of your own takes them by calling runctl.should_checkpoint() in its loop"
    if found.active:
        return f"see: runctl status {found.run}"
    if found.checkpoint_step is None:
        return "no checkpoint of it was saved"
    return f"its newest checkpoint is that of step {found.checkpoint_step:,}"


def _write(attempt: record.Attempt, request: Mapping[str, Any]) -> None:
    """Lay the request into the attempt's folder, whole, behind one that is there already."""
    temporary = attempt.path / f".save.{os.getpid()}.tmp"
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        record.write_json(temporary, dict(request), durable=False)
        while True:
            try:
                os.link(temporary, attempt.save)
                return
            except FileExistsError:
                if time.monotonic() >= deadline:
                    hint = "it is passed on after the first step"
                    raise WaitTimeout("another request waits there already", hint=hint) from None
                time.sleep(_LOOK_SECONDS)
            except OSError:  # a file system without hard links
                os.replace(temporary, attempt.save)
                return
    except PermissionError:
        raise RefusedError("the run belongs to another user", hint="ask them for a checkpoint") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _withdraw(run: record.RunDir, number: int) -> None:
    if run.remote.exists():
        with suppress(RunctlError):
            backends.remote(status.backend_of(run)).withdraw_save(run)
        return
    with suppress(OSError):
        run.attempt(number).save.unlink(missing_ok=True)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _saved(run: record.RunDir, asked: Request, found: status.RunStatus) -> Mapping[str, Any] | None:
    """The checkpoint that answers a request: saved since, at or after the step that was known then."""
    beat = record.read_object(run.attempt(asked.attempt).heartbeat)
    said = beat.get("checkpoint") if found.task == "command" and not run.remote.exists() else None
    for entry in (newest_checkpoint(run), said):
        at, step = fields.number(entry, "time"), fields.whole(entry, "step")
        if at is not None and step is not None and at >= asked.time and step >= (asked.step or 0):
            return dict(entry) if isinstance(entry, Mapping) else None
    return None


def _verified(run: record.RunDir, saved: Mapping[str, Any], seconds: float) -> Saved:
    step = int(saved["step"])
    folder = run.checkpoint(step)
    if (folder / "elsewhere.json").exists():
        size = sum(one["bytes"] for one in checkpoints(run) if one["path"] == str(folder.relative_to(run.path)))
        return Saved(step, folder, size, _THERE, seconds)
    if (folder / "manifest.json").exists():
        return Saved(step, folder, verify(folder), "sha256 of every file", seconds)
    said = fields.text(saved, "path")
    path = Path(said) if said else None
    if run.remote.exists():
        size = fields.whole(newest_checkpoint(run), "bytes")
        return Saved(step, path, size, "it is on the volume, with the bytes that it had", seconds)
    if path is not None and not path.exists():
        raise CheckpointError(f"the program says that it saved {path}, and it is not there")
    return Saved(step, path, None, "by the word of the program" if path is None else "it is there", seconds)
