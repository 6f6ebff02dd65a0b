"""Another attempt of a run whose attempt has failed: whether, when, and its claim. By the supervisor, which lives on.

What a class may do stands in `failures.AGAIN`; `compute.retries` bounds how often, counted from the last launch or
resume by a person. Between two attempts lies a pause that doubles, so that a machine or service can recover.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import Any

from runctl import evidence, fields, record
from runctl.light import dataclass
from runctl.supervisor import lease, room, summary
from runctl.supervisor.events import say
from runctl.supervisor.failures import Failure
from runctl.units import format_duration

BACKOFF_SECONDS = 10.0
MOST_SECONDS = 600.0


@dataclass(frozen=True)
class Restart:
    """Restart `number` of `most`, `wait_seconds` after the attempt's end; `words` say all of it."""

    number: int
    most: int
    wait_seconds: float
    words: str


def plan(
    failure: Failure | None, *, attempt: int, made: int, most: int, backoff_seconds: float = BACKOFF_SECONDS
) -> Restart | None:
    """Whether to start again after `made` restarts; None for what would fail again, and where the bound is reached."""
    if failure is None or not failure.again or made >= most:
        return None
    wait = min(backoff_seconds * 2**made, MOST_SECONDS)
    ended = "was interrupted" if failure.kind == "preemption" else "failed"
    words = f"attempt {attempt} {ended} ({failure.kind}: {failure.cause}); restart {made + 1} of {most}"
    return Restart(made + 1, most, wait, words + f" after {format_duration(wait)}")


def made(run: record.RunDir) -> int:
    """The restarts since a person last launched or resumed the run; those with a smaller batch end by themselves, and
    are not counted."""
    count = 0
    for attempt in run.attempts():
        restart = record.read_object(attempt.start).get("restart")
        count = count + (restart.get("number") != 0) if isinstance(restart, dict) else 0
    return count


def claimed(run: record.RunDir, number: int) -> bool:
    """Whether an attempt is one that the supervisor has made ready by itself."""
    return isinstance(record.read_object(run.attempt(number).start).get("restart"), dict)


def most(config: dict[str, Any]) -> int:
    """`compute.retries` of an effective config; none where a provider counts them, on a machine for each."""
    if lease.restarted_elsewhere():
        return 0
    return fields.whole(config.get("compute"), "retries") or 0


def claim(run: record.RunDir, restart: Restart, after: int, held: dict[str, Any] | None = None) -> int | None:
    """Make the next attempt's folder; its number, or None if that cannot or must not be. `held` is what its start.json
    keeps of a changed config, besides what it carries on.

    Renamed into place, so that of a restart and a person's resume one wins. A run of which only damaged checkpoints are
    left would begin at step 0: that is for a person to decide.
    """
    saved, number = summary.newest_checkpoint(run), after + 1
    if saved is None and summary.damaged(run):
        say(f"{run.name} is not started again: its checkpoints are damaged")
        return None
    own, target = evidence.identify(), run.attempt(number).path
    temporary = target.with_name(f".restart-{os.getpid()}.tmp")
    entry = record.carried(run, after) | {
        "schema_version": record.SCHEMA_VERSION,
        "time": time.time(),
        "launcher": own.to_json() if own else None,
        "from_step": saved["step"] if saved else 0,
        "checkpoint": saved,
        "code": None,
        "restart": {
            "number": restart.number,
            "most": restart.most,
            "wait_seconds": restart.wait_seconds,
            "words": restart.words,
        },
    }
    try:
        record.write_json(temporary / "start.json", entry | (held or {}))
        room.reserve(temporary)
        os.rename(temporary, target)
    except OSError as error:
        with suppress(OSError):
            shutil.rmtree(temporary, ignore_errors=True)
        say(f"{run.name} is not started again: {error}")
        return None
    return number
