"""The status of a run that has ended, by its summary alone: one small file for each of ten thousand runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runctl import record
from runctl.fields import number, text, whole
from runctl.status.facts import RunStatus
from runctl.status.values import count, has_ended
from runctl.supervisor.failures import kind_of
from runctl.supervisor.summary import REST


def finished(run: record.RunDir, now: float) -> RunStatus | None:
    """What the summary says, or None where it is missing, not whole, not the newest attempt's, or run.json gone."""
    found = brief(str(run.path), run.name, now)
    newest = max((attempt.number for attempt in run.attempts()), default=0)
    return found if found is not None and found.attempt == newest else None


def brief(folder: str, name: str, now: float) -> RunStatus | None:
    """`finished` where it is known that no attempt came after the summary. Of the file only the beginning is looked at,
    if what a list shows stands there."""
    data = record.read_head(f"{folder}/summary.json", "checkpoint", REST)
    if not has_ended(data):
        return None
    try:
        launched = os.stat(f"{folder}/run.json").st_size > 2
    except OSError:
        return None
    return of_summary(name, data, now) if launched else None


def of_summary(name: str, data: Mapping[str, Any], now: float) -> RunStatus | None:
    """The same as `fold` says of such a run, without what only matters while it goes on; None for a summary of an
    earlier version, which lacks some of it."""
    made, begun, ended = number(data, "created"), number(data, "started"), number(data, "ended")
    attempt = whole(data, "attempts")
    if made is None or begun is None or ended is None or attempt is None:
        return None
    ended = min(ended, now)
    step, total = count(data, "steps"), count(data, "total_steps")
    saved = data.get("checkpoints")
    newest = data.get("checkpoint") or (saved[-1] if isinstance(saved, list) and saved else None)
    saved_at = number(newest, "time")
    state = str(data["state"])
    return RunStatus(
        run=name,
        task=text(data, "task"),
        state=state,
        reason=text(data, "reason") or "",
        attempt=attempt,
        phase=None,
        message="",
        step=step,
        total_steps=total,
        progress=min(1.0, step / total) if step is not None and total else None,
        eta_seconds=None,
        loss=number(data, "loss"),
        examples_per_second=None,
        steps_per_second=None,
        memory_bytes=count(data, "memory_bytes"),
        device=text(data, "device"),
        data_source=None,
        tracking={},
        checkpoint_step=count(newest, "step"),
        checkpoint_age_seconds=None if saved_at is None else max(0.0, now - saved_at),
        heartbeat_age_seconds=None,
        first_step=bool(step),
        cost_usd=number(data, "cost_usd"),
        created=made,
        started=begun,
        ended=ended,
        seconds=max(0.0, ended - begun),
        total_seconds=number(data, "seconds"),
        interruptions=count(data, "interruptions") or 0,
        failures=count(data, "failures") or 0,
        exit_code=count(data, "exit_code"),
        failure=kind_of(data) if state != "succeeded" else None,
        guard="",
        host=None,
        leftover=False,
        damage="",
    )
