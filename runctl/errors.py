"""The error tree: everything a person can fix, with a hint and an exit code (README, "Exit codes").

Why one tree: the command line turns any `RunctlError` into one message in three beats (what, where and why,
what to do) and its exit code. Anything else that escapes is a defect of runctl and exits with 3.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from difflib import get_close_matches
from enum import IntEnum
from typing import Any

from runctl.light import dataclass, pattern


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    INTERNAL = 3
    REFUSED = 4
    PROVIDER = 5
    RUN_FAILED = 6
    RUN_KILLED = 7
    WAIT_TIMEOUT = 8
    INTERRUPTED = 130
    CLOSED_PIPE = 141


class RunctlError(Exception):
    """A problem that a person can fix: `message` says what and where, `hint` says what to do."""

    exit_code = Exit.USAGE

    def __init__(self, message: str, *, hint: str | None = None, run: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.run = run
        self.data: dict[str, Any] = {}  # what `--json` prints beside the error

    def to_json(self) -> dict[str, Any]:
        """The error as `--json` prints it; a run that it is about is named."""
        found = {"message": self.message, "hint": self.hint, "exit_code": int(self.exit_code)}
        return found | ({"run": self.run} if self.run else {})


class UsageError(RunctlError):
    """A wrong argument, a missing file, a YAML file that cannot be parsed, a run name that cannot be."""


class PlaceError(UsageError):
    """The place to write to is full, read-only or not ours."""


_PLACES = {
    errno.ENOSPC: ("no space left on {}", "make room there, then give the same command again"),
    errno.EDQUOT: ("the disk quota is used up on {}", "make room there, then give the same command again"),
    errno.EFBIG: ("{} may not grow any further", "raise the limit on the size of files (ulimit -f), or make room"),
    errno.EROFS: ("{} is on a read-only file system", "give a place that can be written to"),
    errno.EACCES: ("no permission for {}", "make it readable and writable for you, or give another place"),
    errno.EISDIR: ("{} is a folder", "name a file in it"),
    errno.ENOTDIR: ("{} cannot be: a part of its path is a file, not a folder", "give another place"),
    errno.ELOOP: ("{} is a link that leads to itself", "delete the link, or let it lead to a file"),
    errno.EPERM: ("no permission for {}", "make it readable and writable for you, or give another place"),
}

_TEMPORARY = pattern(r"(^|/)\.([^/]+)\.\d+\.tmp$")


def of_place(error: OSError, place: object = None) -> PlaceError | None:
    """What a full, read-only or forbidden disk means to a person; None for any other error of the system.

    `place` is where the command writes: the error itself names a file only where it was opened."""
    name = error.filename2 or error.filename or place or "the disk"
    whole = _TEMPORARY.sub(r"\1\2", str(name))  # what was to be written, not the name under which it was begun
    if error.errno == errno.ENOENT and whole != str(name):
        return PlaceError(f"{whole} cannot be written there", hint="give a place that can be written to")
    if error.errno not in _PLACES:
        return None
    message, hint = _PLACES[error.errno]
    return PlaceError(message.format(whole), hint=hint)


class Internal(RunctlError):
    """A defect of runctl itself, told in the same form as what a person can fix."""

    exit_code = Exit.INTERNAL


class RefusedError(RunctlError):
    """Refused by budget, sign-off or policy; the hint names the command that would allow it."""

    exit_code = Exit.REFUSED


class ProviderError(RunctlError):
    """A backend cannot be reached, refuses, or cannot do what the config asks."""

    exit_code = Exit.PROVIDER


class RunFailed(RunctlError):
    """A run failed, was stopped or is lost."""

    exit_code = Exit.RUN_FAILED


class WaitTimeout(RunctlError):
    """A wait ended before what it waited for happened; the run goes on."""

    exit_code = Exit.WAIT_TIMEOUT


class DataError(RunctlError):
    """Replays or an encoded dataset are unusable: missing, damaged, empty, or encoded otherwise."""

    exit_code = Exit.FINDINGS


class CheckpointError(RunctlError):
    """A checkpoint is damaged, or belongs to another architecture, encoding or dataset."""

    exit_code = Exit.RUN_FAILED


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config, where it is, and what to do. `line` and `column` count from 1."""

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None
    rule: str = "CF100"

    def where(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("rule", "message", "file", "line", "column", "hint")}


class ConfigError(RunctlError):
    """A config that reads as YAML but is not a valid `RunConfig`: carries every problem at once."""

    exit_code = Exit.FINDINGS

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)} in the config")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"problems": [problem.to_json() for problem in self.problems]}


def did_you_mean(given: str, known: Sequence[str], most: int = 1) -> str | None:
    """A hint that names the nearest known words, or None if none is near."""
    near = get_close_matches(given, known, n=most, cutoff=0.6)
    return "did you mean {}?".format(" or ".join(f"'{word}'" for word in near)) if near else None
