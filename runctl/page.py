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
from runctl.fields import first_of, number, text, whole
from runctl.guards.watch import listed
from runctl.supervisor.failures import kind_of
from runctl.supervisor.summary import checkpoints, passed_over, spent_seconds

_TAILS = (1 << 16, 1 << 20, None)


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
    last_line: str
    paths: dict[str, str]
    commands: list[str]

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "status": self.status.to_json()}


def read(run: record.RunDir) -> Page:
    """Gather a run's page; what a damaged or missing file would have said is left out."""
    found = status.observe(run)
    data = record.read_object(run.run)
    row = last_validation(run)
    code: Any = data.get("code")
    return Page(
        status=found,
        digest=data.get("digest"),
        config_file=data.get("config_file"),
        commit=code.get("commit") if isinstance(code, dict) else None,
        allowed=data.get("allowed") or [],
        attempts=[_attempt(entry) for entry in run.attempts()],
        checkpoints=checkpoints(run),
        metrics={key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")},
        metrics_step=row.get("step"),
        baselines={key.removeprefix("baseline/"): value for key, value in row.items() if key.startswith("baseline/")},
        guards=_guards(run, data),
        account=accounting.account(
            run,
            seconds=spent_seconds(run),
            cost_usd=found.cost_usd,
            total_steps=found.total_steps,
            finished=found.state == "succeeded",
        ),
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
        found = [row for row in rows if any(key.startswith("val/") for key in row)]
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


def _guards(run: record.RunDir, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The guards of a run in words, each with how often it tripped in all attempts, and the last time."""
    told = ("guard_tripped", "guard_unjudged")
    rows = [row for row in record.read_lines(run.events) if row.get("event") in told]
    found = []
    for guard in listed(data):
        own = [row for row in rows if row.get("guard") == guard.get("name")]
        trips = [row for row in own if row.get("event") == "guard_tripped"]
        entry = {key: guard.get(key) for key in ("name", "origin", "on", "off_because", "do", "words", "why")}
        last = {key: trips[-1].get(key) for key in ("time", "attempt", "step", "reason")} if trips else None
        unjudged = own[-1].get("reason") if own and not trips else None
        found.append({**entry, "trips": len(trips), "last": last, "unjudged": unjudged})
    return found


def _attempt(attempt: record.Attempt) -> dict[str, Any]:
    """One attempt: from where it really went on, to where, and how it ended."""
    end, start, resumed = (record.read_object(path) for path in (attempt.exit, attempt.start, attempt.resumed))
    begun = first_of([whole(resumed, "step"), whole(start, "from_step")])
    return {
        "attempt": attempt.number,
        "started": start.get("time"),
        "from_step": begun,
        "passed_over": passed_over(resumed),
        "step": end.get("step"),
        "state": end.get("state"),
        "reason": end.get("reason"),
        "seconds": end.get("seconds"),
        "failure": kind_of(end),
        "restart": text(start.get("restart"), "words"),
        "steps_per_second": _rate(end, begun),
    }


def _rate(end: dict[str, Any], begun: int | None) -> float | None:
    """Steps of one attempt ÷ its own seconds."""
    step, seconds = whole(end, "step"), number(end, "seconds")
    return max(0, step - (begun or 0)) / seconds if step is not None and seconds else None


def _last_line(run: record.RunDir) -> str:
    """The last line of the newest attempt's log that says something."""
    attempts = run.attempts()
    lines = logs.last_lines(attempts[-1].log, 20) if attempts else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


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
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - size))
        lines = file.read().split(b"\n")[:-1]
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
