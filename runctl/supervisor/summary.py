"""`summary.json`, the result contract of a run, and `exit.json`, the end of one attempt.

A summary is written once an attempt has ended, and removed when the next one starts: while it is there, it is true.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from runctl import record
from runctl.estimate import accounting
from runctl.supervisor.failures import Failure, count
from runctl.supervisor.verdict import Verdict

_SECONDS_LIMIT = 100 * 365 * 86400.0


def exit_record(
    verdict: Verdict,
    *,
    returncode: int | None,
    heartbeat: Any,
    result: Any,
    started: float,
    ended: float,
    seconds: float,
    checkpoint: Any = None,
    failure: Failure | None = None,
) -> dict[str, Any]:
    """exit.json: how one attempt ended. `exit_code` is null after a signal, `seconds` are those supervised.

    A trainer that was killed may have saved a checkpoint after its last heartbeat: the later step counts.
    """
    steps = [source for source in (result, heartbeat) if isinstance(source, dict)]
    reached = [_first(steps, "step"), _first([checkpoint or {}], "step")]
    return {
        "schema_version": record.SCHEMA_VERSION,
        "state": verdict.state,
        "reason": verdict.reason,
        "exit_code": returncode if returncode is not None and returncode >= 0 else None,
        "signal": -returncode if returncode is not None and returncode < 0 else None,
        "failure": failure.to_json() if failure else None,
        "result": result.get("outcome") if isinstance(result, dict) else None,
        "step": max((step for step in reached if step is not None), default=None),
        "total_steps": _first(steps, "total_steps"),
        "started": started,
        "ended": ended,
        "seconds": seconds,
    }


def build(run: record.RunDir, verdict: Verdict, ended: float) -> dict[str, Any]:
    """The summary of a run whose newest attempt has ended, read from its records.

    `cost_usd` is 0 on the local backend: nobody is paid for it.
    """
    exits = [record.read_json(attempt.exit) for attempt in run.attempts()]
    last = next((entry for entry in reversed(exits) if isinstance(entry, dict)), {})
    rows = validation_rows(run)
    newest = rows[-1] if rows else {}
    spent, steps = spent_seconds(run), last.get("total_steps")
    return {
        "schema_version": record.SCHEMA_VERSION,
        "run": run.name,
        "state": verdict.state,
        "reason": verdict.reason,
        "failure": last.get("failure"),
        "attempts": len(exits),
        **count(exits),
        "steps": last.get("step"),
        "total_steps": steps,
        "seconds": spent,
        "cost_usd": 0.0,
        "metrics": {key: value for key, value in newest.items() if key.startswith("val/")},
        "baselines": {
            key.removeprefix("baseline/"): value for key, value in newest.items() if key.startswith("baseline/")
        },
        "checkpoints": checkpoints(run),
        "best": best(run, rows),
        "account": accounting.account(
            run, seconds=spent, cost_usd=0.0, total_steps=steps, finished=verdict.state == "succeeded"
        ),
        "ended": ended,
    }


def spent_seconds(run: record.RunDir) -> float:
    """Seconds of all attempts so far; one whose supervisor was lost counts until its last heartbeat."""
    total = 0.0
    for attempt in run.attempts():
        entry = record.read_json(attempt.exit)
        if isinstance(entry, dict) and isinstance(seconds := entry.get("seconds"), int | float):
            total += seconds
            continue
        start, heartbeat = record.read_json(attempt.start), record.read_json(attempt.heartbeat)
        if isinstance(start, dict) and isinstance(heartbeat, dict):
            begun, beat = start.get("time"), heartbeat.get("time")
            if isinstance(begun, int | float) and isinstance(beat, int | float):
                total += min(max(0.0, beat - begun), _SECONDS_LIMIT)
    return total


def validation_rows(run: record.RunDir) -> list[dict[str, Any]]:
    """The validations of a run by step; of a step that was run again, the last attempt's."""
    by_step = {}
    for row in record.read_lines(run.metrics):
        if isinstance(row.get("step"), int) and any(key.startswith("val/") for key in row):
            by_step[row["step"]] = row
    return [by_step[step] for step in sorted(by_step)]


def checkpoints(run: record.RunDir) -> list[dict[str, Any]]:
    """The whole checkpoints of a run, oldest first: step, path within the run, bytes and validation metrics.

    One with a missing or short file is not whole. (One that a resume found damaged has lost its name.)
    """
    found = []
    for folder in sorted(run.checkpoints.glob("step-*")):
        if (manifest := _whole(folder)) is None:
            continue
        found.append(
            {
                "step": manifest["step"],
                "path": str(folder.relative_to(run.path)),
                "time": manifest.get("created"),
                "bytes": sum(_size(folder / name) for name in _files(manifest)),
                "metrics": manifest.get("metrics"),
            }
        )
    return found


def damaged(run: record.RunDir) -> list[str]:
    """The names of the checkpoints that are not whole, those that a resume has set aside among them."""
    lost = [folder.name for folder in run.checkpoints.glob("step-*") if _whole(folder) is None]
    return sorted([*lost, *(folder.name for folder in run.checkpoints.glob("damaged-step-*"))])


def newest_checkpoint(run: record.RunDir) -> dict[str, Any] | None:
    """Step and time of the newest whole checkpoint, without a look at the older ones."""
    folders = sorted(run.checkpoints.glob("step-*"), reverse=True)
    whole = (_whole(folder) for folder in folders)
    manifest = next((entry for entry in whole if entry is not None), None)
    return None if manifest is None else {"step": manifest["step"], "time": manifest.get("created")}


def passed_over(resumed: dict[str, Any]) -> list[str]:
    """Of a resumed.json: for each checkpoint that could not be resumed from, a sentence that names it and says why."""
    said = resumed.get("passed_over")
    rows = [entry for entry in said if isinstance(entry, dict)] if isinstance(said, list) else []
    return [str(entry.get("why") or f"checkpoint {entry.get('checkpoint')} is damaged") for entry in rows]


def _whole(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint that is whole as far as can be told without reading its files."""
    manifest = record.read_object(folder / "manifest.json")
    if type(manifest.get("step")) is not int:
        return None
    for name, about in _files(manifest).items():
        expected = about.get("bytes") if isinstance(about, dict) else None
        if isinstance(expected, int) and _size(folder / name) != expected:
            return None
    return manifest


def _files(manifest: dict[str, Any]) -> dict[str, Any]:
    files = manifest.get("files")
    return files if isinstance(files, dict) else {}


def best(run: record.RunDir, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best validation by the config's own metric: its value, step, and the checkpoint of that step if kept."""
    config = record.read_object(run.run).get("config")
    rule = config.get("checkpoint") if isinstance(config, dict) else None
    if not isinstance(rule, dict):
        return None
    metric = str(rule.get("metric"))
    sign = -1.0 if rule.get("mode") == "max" else 1.0
    scored = [row for row in rows if isinstance(row.get(metric), int | float) and math.isfinite(row[metric])]
    if not scored:
        return None
    row = min(scored, key=lambda entry: sign * entry[metric])
    folder = run.checkpoint(row["step"])
    kept = _whole(folder) is not None
    return {
        "metric": metric,
        "mode": rule.get("mode"),
        "value": row[metric],
        "step": row["step"],
        "checkpoint": str(folder.relative_to(run.path)) if kept else None,
    }


def _first(sources: list[dict[str, Any]], key: str) -> int | None:
    return next((source[key] for source in sources if isinstance(source.get(key), int)), None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
