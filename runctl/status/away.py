"""The state of a run on a provider's machines: what the service said when it was last asked, with the copies of the
run's records. Pure, and part of the truth table (`state`).

None where the records alone decide: the run is closed, and its end is on record. What could not be asked is no end:
such a run is called stalled, with what was last known of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from runctl.fields import number, text
from runctl.status.facts import Records
from runctl.status.values import event, has_ended
from runctl.units import format_duration

STALL_SECONDS = 300.0  # a heartbeat comes over the volume every few seconds, and the volume may be slow
Found = tuple[str, str, float | None]


def judge(records: Records, *, age: float | None, began: bool, now: float) -> Found | None:
    """(state, reason, when it ended), or None. `age` is the heartbeat's, `began` whether a step has been done."""
    known = records.remote
    phase, seen = text(known, "phase"), _mapping(known.get("seen"))
    if phase == "closed":
        return None
    if phase == "failed":
        return "failed", text(known, "problem") or "the launch failed", _past(known, now)
    if phase == "launching":
        return _launching(known, seen, now)
    kind, problems = text(seen, "call") or "unknown", "; ".join(_texts(seen.get("problems")))
    if kind == "unknown":
        said = f"its provider cannot be asked: {problems or 'not tried yet'}"
        last = f"; last known {_ago(age)}" if age is not None else ""
        return "stalled", said + last, None
    if kind == "ending" and not has_ended(records.exit):
        return "stopping", "its call was ended; its container has its grace to save", None
    if kind != "unfinished":
        if has_ended(records.exit) and not problems:
            return None
        answer, end = _mapping(seen.get("answer")), _mapping(records.exit)
        state = text(answer, "state") or text(end, "state") or "failed"
        why = text(answer, "reason") or text(end, "reason") or text(seen, "error") or f"its call is over ({kind})"
        return (
            "stopping",
            f"{state}: {why}; its end is being written down" + (f"; {problems}" if problems else ""),
            None,
        )
    return _going(records, age, began, now)


def _launching(known: Mapping[str, Any], seen: Mapping[str, Any], now: float) -> Found:
    problems = "; ".join(_texts(seen.get("problems")))
    if problems:
        return (
            "stalled",
            f"its launch was cut off, and its provider cannot be asked what became of it: {problems}; "
            "it is looked for again, or ended by: runctl reconcile",
            None,
        )
    return "queued", "it is being sent to its provider", None


def _going(records: Records, age: float | None, began: bool, now: float) -> Found:
    """The state of a run whose call goes on."""
    known = records.remote
    asked = event(records, "stop_requested")
    if has_ended(records.exit):
        end = records.exit
        if known.get("asked") or text(end, "state") == "succeeded":
            return "stopping", "it has saved; its container is ending", None
        return (
            "restarting",
            f"attempt {records.attempt} {end['state']}: {text(end, 'reason')}; another container follows",
            None,
        )
    if not isinstance(records.container, Mapping):
        since = number(records.start, "time")
        when = "" if since is None else f" since {time.strftime('%H:%M', time.localtime(since))}"
        what = "a GPU" if _gpu(records) else "a container"
        return "queued", f"queued for {what}{when}", None
    if asked is not None:
        return "stopping", text(asked, "reason") or "", None
    if known.get("asked"):
        return "stopping", "it was asked to stop", None
    quiet = age if age is not None else _since(records.container, now)
    if quiet is not None and quiet > STALL_SECONDS:
        return "stalled", f"no heartbeat over the volume for {format_duration(quiet)}", None
    if began:
        return "running", "", None
    again = _mapping(_mapping(records.start).get("restart"))
    return ("starting", "", None) if records.attempt == 1 else ("restarting", text(again, "words") or "", None)


def _gpu(records: Records) -> bool:
    return bool(text(_mapping(records.run.get("config")).get("compute"), "gpu"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _past(data: Any, now: float) -> float:
    moment = number(data, "time")
    return now if moment is None else min(moment, now)


def _since(data: Any, now: float) -> float | None:
    moment = number(data, "time")
    return None if moment is None else max(0.0, now - moment)


def _ago(seconds: float) -> str:
    return f"{format_duration(max(1.0, seconds))} ago"
