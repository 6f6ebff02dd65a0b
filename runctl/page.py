"""All that is known of one run on one page: its status, attempts, checkpoints, metrics beside the baselines, paths,
and the commands that make sense next."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl import logs, record, status
from runctl.estimate import accounting
from runctl.fields import first_of, held_out, number, text, whole
from runctl.guards.watch import listed
from runctl.supervisor import changing
from runctl.supervisor.failures import kind_of
from runctl.supervisor.summary import checkpoints, passed_over, spent_seconds

_GUARD = ("name", "origin", "off_because", "do", "words", "why")
_REMARKED = ("left_behind", "progress_unread")
_LONGEST_LINE = 400  # letters of a log's line that are shown
_TAILS = (1 << 16, 1 << 20, 1 << 26)


@dataclass(frozen=True)
class Page:
    status: status.RunStatus
    digest: str | None
    config_file: str | None
    commit: str | None
    allowed: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]
    metrics: dict[str, float | None]
    metrics_step: int | None
    baselines: dict[str, float | None]
    guards: list[dict[str, Any]]
    account: dict[str, Any]
    throughput: dict[str, Any]
    remarks: list[str]
    last_line: str
    paths: dict[str, str]
    commands: list[str]

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "status": self.status.to_json()}


def read(run: record.RunDir) -> Page:
    """Gather a run's page; what a damaged or missing file would have said is left out."""
    found = status.observe(run)
    data = record.content(run)
    row = last_validation(run)
    return Page(
        status=found,
        digest=text(data, "digest"),
        config_file=text(data, "config_file"),
        commit=text(data.get("code"), "commit"),
        allowed=_allowed(data.get("allowed")),
        attempts=_attempts(run, found),
        checkpoints=checkpoints(run),
        metrics={key.removeprefix("val/"): number(row, key) for key in row if held_out(key)},
        metrics_step=whole(row, "step"),
        baselines={key.removeprefix("baseline/"): number(row, key) for key in row if key.startswith("baseline/")},
        guards=_guards(run, data),
        account=accounting.account(
            run,
            seconds=spent_seconds(run),
            cost_usd=found.cost_usd,
            total_steps=found.total_steps,
            finished=found.state == "succeeded",
        ),
        throughput=accounting.speed(run),
        remarks=_remarks(run, found),
        last_line=_last_line(run),
        paths=_paths(run),
        commands=commands(found),
    )


def last_validation(run: record.RunDir) -> dict[str, Any]:
    """The newest validation row of metrics.jsonl, read from its end; {} if there is none."""
    try:
        size = run.metrics.stat().st_size
    except OSError:
        return {}
    for limit in _TAILS:
        rows = _tail_rows(run.metrics, size if limit is None else min(limit, size))
        found = [row for row in rows if any(held_out(key) for key in row)]
        if found:
            return found[-1]
        if limit is not None and limit >= size:
            return {}
    return {}


def commands(found: status.RunStatus) -> list[str]:
    """What a person is likely to type next."""
    name = found.run
    if found.active:
        return [f"runctl status {name} --watch", f"runctl logs -f {name}", f"runctl stop {name}"]
    if found.state == "succeeded" or found.damage:
        return [f"runctl pull {name} results", f"runctl logs {name}"]
    if found.state == "lost":
        return [f"runctl logs {name} --tail 50", f"runctl resume {name} --force"]
    why = [f"runctl why {name}"] if found.state == "failed" else [f"runctl logs {name} --tail 50"]
    return [*why, f"runctl resume {name}"]


def _allowed(given: Any) -> list[dict[str, Any]]:
    """The rules that were allowed at launch, each with its reason."""
    found = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return [{"rule": text(one, "rule"), "because": text(one, "because")} for one in found]


def _guards(run: record.RunDir, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The guards of a run in words, each with how often it tripped in all attempts, and the last time."""
    told = ("guard_tripped", "guard_unjudged")
    rows = [row for row in record.read_lines(run.events) if row.get("event") in told]
    found = []
    for guard in listed(data):
        own = [row for row in rows if row.get("guard") == guard.get("name")]
        trips = [row for row in own if row.get("event") == "guard_tripped"]
        entry: dict[str, Any] = {key: text(guard, key) for key in _GUARD}
        entry["on"] = guard.get("on") is True
        last: dict[str, Any] | None = None
        if trips:
            last = {key: whole(trips[-1], key) for key in ("attempt", "step")}
            last |= {"time": number(trips[-1], "time"), "reason": text(trips[-1], "reason")}
        unjudged = text(own[-1], "reason") if own and not trips else None
        found.append({**entry, "trips": len(trips), "last": last, "unjudged": unjudged})
    return found


def _attempts(run: record.RunDir, now: status.RunStatus) -> list[dict[str, Any]]:
    """Every attempt, with what was found of its resume; without an end on record, the newest as it stands `now`."""
    told = {"resume_verified": True, "resume_doubtful": False}
    rows = [row for row in record.read_lines(run.events) if text(row, "event") in (*told, "first_step")]
    found = []
    for attempt in run.attempts():
        mine = [row for row in rows if row.get("attempt") == attempt.number]
        own = next((row for row in mine if row["event"] in told), None)
        resume = own and {"verified": told[str(own["event"])], "words": text(own, "reason") or ""}
        first = next((whole(row, "step") for row in mine if row["event"] == "first_step"), None)
        found.append(_attempt(attempt, first) | {"resume": resume})
        if attempt.number == now.attempt and found[-1]["state"] is None:
            kept = ("state", "reason", "step", "seconds", "steps_per_second")
            found[-1] |= {key: getattr(now, key) for key in kept}
    return found


def _attempt(attempt: record.Attempt, first: int | None) -> dict[str, Any]:
    """One attempt: from where it really went on, to where, and how it ended. `first` is the first step that it told: a
    program of one's own may have gone on elsewhere than it was given."""
    end, start, resumed = (record.read_object(path) for path in (attempt.exit, attempt.start, attempt.resumed))
    begun = first_of([whole(resumed, "step"), whole(start, "from_step")])
    if first is not None and begun is not None and first <= begun:
        begun = max(0, first - 1)
    return {
        "attempt": attempt.number,
        "started": number(start, "time"),
        "from_step": begun,
        "passed_over": passed_over(resumed),
        "step": whole(end, "step"),
        "state": text(end, "state"),
        "reason": text(end, "reason"),
        "seconds": number(end, "seconds"),
        "failure": kind_of(end),
        "restart": text(start.get("restart"), "words"),
        "changed": changing.words(start.get("changes")),
        "changed_by": text(start, "changed_by"),
        "steps_per_second": _rate(end, begun),
    }


def _rate(end: dict[str, Any], begun: int | None) -> float | None:
    """Steps of one attempt ÷ its own seconds."""
    step, seconds = whole(end, "step"), number(end, "seconds")
    return max(0, step - (begun or 0)) / seconds if step is not None and seconds else None


def _remarks(run: record.RunDir, now: status.RunStatus) -> list[str]:
    """What the end of the newest attempt should not hide, however well it ended."""
    rows = [row for row in record.read_lines(run.events) if row.get("event") in _REMARKED] if now.over else []
    return [reason for row in rows if row.get("attempt") == now.attempt and (reason := text(row, "reason"))]


def _last_line(run: record.RunDir) -> str:
    """The last line of the newest attempt's log that says something."""
    attempts = run.attempts()
    lines = logs.last_lines(attempts[-1].log, 20) if attempts else []
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def _paths(run: record.RunDir) -> dict[str, str]:
    """What of a run is there to be looked at."""
    attempts = run.attempts()
    found: dict[str, Path] = {"run": run.path, "metrics": run.metrics, "checkpoints": run.checkpoints}
    if attempts:
        found["log"] = attempts[-1].log
    found["code_diff"] = run.code_diff
    return {name: _short(path) for name, path in found.items() if path.exists()}


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _tail_rows(path: Path, size: int) -> list[dict[str, Any]]:
    try:
        with record.open_file(path) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            lines = file.read(size).split(b"\n")[:-1]
    except OSError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
