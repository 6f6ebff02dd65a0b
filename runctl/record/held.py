"""run.json as it holds for an attempt: what was launched, with what resumes and restarts have changed since.

A change lies in the start.json of the attempt from which it holds, and is carried on by each later one; run.json is
written once. So no reader takes a run's config, guards, command or estimate from run.json itself; only the account of
a run is held against the estimate that it was launched with.
"""

from __future__ import annotations

from typing import Any

from runctl.record.files import read_object
from runctl.record.paths import RunDir

HELD = {"config": dict, "digest": str, "guards": list, "command": list, "estimate": dict}  # what a resume may change
CARRIED = (*HELD, "accepted")


def content(run: RunDir, number: int | None = None) -> dict[str, Any]:
    """run.json as it holds for an attempt, by default the newest: with what resumes have changed since the launch."""
    return changed(read_object(run.run), started(run, number))


def started(run: RunDir, number: int | None = None) -> dict[str, Any]:
    """start.json of an attempt, by default the newest; where that is lost, the one before it. It carries on what
    earlier ones have changed."""
    known = [attempt for attempt in run.attempts() if number is None or attempt.number <= number]
    starts = (read_object(attempt.start) for attempt in reversed(known))
    return next((start for start in starts if start), {})


def carried(run: RunDir, number: int | None = None) -> dict[str, Any]:
    """What of an attempt's start.json holds for the next one too."""
    start = started(run, number)
    return {key: start[key] for key in CARRIED if key in start}


def changed(launched: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """run.json's content with what a start.json holds in its place; {} stays so."""
    kept = {key: start[key] for key, kind in HELD.items() if isinstance(start.get(key), kind)}
    return {**launched, **kept} if launched else {}
