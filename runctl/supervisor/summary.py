"""`summary.json`, the result contract of a run, and `exit.json`, the end of one attempt.

A summary is written once an attempt has ended, and removed when the next one starts: while it is there, it is true.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from runctl import fields, record, spending
from runctl.estimate import accounting
from runctl.fields import held_out
from runctl.supervisor import kept
from runctl.supervisor.failures import Failure, count
from runctl.supervisor.verdict import Verdict

REST = "metrics"  # the first key of a summary that a list of many runs can do without
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


def build(run: record.RunDir, number: int, verdict: Verdict, ended: float) -> dict[str, Any]:
    """The summary of a run whose attempt `number` has ended, read from its records. (A resume may have claimed the next
    one already: a summary that counted it would be taken for its end.)

    `cost_usd` is 0 where nobody is paid, and null where no price was known at the launch. What a list of many runs
    shows stands before REST.
    """
    exits = [record.read_json(attempt.exit) for attempt in run.attempts() if attempt.number <= number]
    last = next((entry for entry in reversed(exits) if isinstance(entry, dict)), {})
    rows = validation_rows(run)
    newest = rows[-1] if rows else {}
    spent, steps, saved = spent_seconds(run), last.get("total_steps"), checkpoints(run)
    cost = spending.cost_usd(record.content(run, number), spent, run)
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
        "cost_usd": cost,
        "ended": ended,
        **_glance(run, last),
        "checkpoint": {key: saved[-1][key] for key in ("step", "time")} if saved else None,
        REST: {key: value for key, value in newest.items() if held_out(key)},
        "baselines": {
            key.removeprefix("baseline/"): value for key, value in newest.items() if key.startswith("baseline/")
        },
        "checkpoints": saved,
        "best": best(run, rows),
        "account": accounting.account(
            run, seconds=spent, cost_usd=cost, total_steps=steps, finished=verdict.state == "succeeded"
        ),
        "throughput": accounting.speed(run),
    }


def _glance(run: record.RunDir, last: dict[str, Any]) -> dict[str, Any]:
    """What a table of many runs shows of one, so that it needs no other file (`status/finished.py`)."""
    content, beat = record.content(run), record.read_object(run.attempts()[-1].heartbeat)
    config = content.get("config")
    return {
        "task": config.get("task") if isinstance(config, dict) else None,
        "created": content.get("created"),
        "started": last.get("started"),
        "exit_code": last.get("exit_code"),
        **{key: beat.get(key) for key in ("loss", "memory_bytes", "device")},
    }


def spent_seconds(run: record.RunDir) -> float:
    """Seconds of all attempts so far; one whose supervisor was lost counts until its last heartbeat."""
    total = 0.0
    for attempt in run.attempts():
        if (seconds := fields.number(record.read_json(attempt.exit), "seconds")) is not None:
            total += seconds
            continue
        begun, beat = (fields.number(record.read_json(path), "time") for path in (attempt.start, attempt.heartbeat))
        if begun is not None and beat is not None:
            total += min(max(0.0, beat - begun), _SECONDS_LIMIT)
    return total


def validation_rows(run: record.RunDir) -> list[dict[str, Any]]:
    """The validations of a run by step; of a step that was run again, the last attempt's."""
    by_step = {}
    for row in record.read_lines(run.metrics):
        if (step := fields.whole(row, "step")) is not None and any(held_out(key) for key in row):
            by_step[step] = row
    return [by_step[step] for step in sorted(by_step)]


def checkpoints(run: record.RunDir) -> list[dict[str, Any]]:
    """The whole checkpoints of a run, oldest first: step, path within the run, bytes and validation metrics. Those that
    a program of one's own wrote (`own`) may lie outside: their path is absolute then.

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
                "time": fields.number(manifest, "created"),
                "bytes": sum(
                    _size(folder / name) or fields.whole(about, "bytes") or 0
                    for name, about in _files(manifest).items()
                ),
                "metrics": manifest.get("metrics"),
            }
        )
    return [*found, *kept.checkpoints(run)]


def damaged(run: record.RunDir) -> list[str]:
    """The names of the checkpoints that are not whole, those that a resume has set aside among them."""
    config = record.content(run).get("config")
    if isinstance(config, dict) and config.get("task") == "command":
        return kept.damaged(run)
    lost = [folder.name for folder in run.checkpoints.glob("step-*") if _whole(folder) is None]
    return sorted([*lost, *(folder.name for folder in run.checkpoints.glob("damaged-step-*"))])


def newest_checkpoint(run: record.RunDir) -> dict[str, Any] | None:
    """Step and time of the newest whole checkpoint, without a look at the older ones."""
    folders = sorted(run.checkpoints.glob("step-*"), reverse=True)
    whole = (_whole(folder) for folder in folders)
    manifest = next((entry for entry in whole if entry is not None), None)
    if manifest is None and (own := kept.newest(run)[0]):
        return {key: own.get(key) for key in ("step", "time", "attempt")} | {"path": str(kept.place(run, own))}
    return None if manifest is None else {"step": manifest["step"], "time": fields.number(manifest, "created")}


def passed_over(resumed: dict[str, Any]) -> list[str]:
    """Of a resumed.json: for each checkpoint that could not be resumed from, a sentence that names it and says why."""
    said = resumed.get("passed_over")
    rows = [entry for entry in said if isinstance(entry, dict)] if isinstance(said, list) else []
    return [str(entry.get("why") or f"checkpoint {entry.get('checkpoint')} is damaged") for entry in rows]


def _whole(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint that is whole as far as can be told without reading its files."""
    manifest = record.read_object(folder / "manifest.json")
    if fields.whole(manifest, "step") is None:
        return None
    elsewhere = record.read_object(folder / "elsewhere.json")  # files that are on a provider's volume, with their bytes
    for name, about in _files(manifest).items():
        expected = about.get("bytes") if isinstance(about, dict) else None
        if isinstance(expected, int) and expected not in (_size(folder / name), fields.whole(elsewhere, name)):
            return None
    return manifest


def _files(manifest: dict[str, Any]) -> dict[str, Any]:
    files = manifest.get("files")
    return files if isinstance(files, dict) else {}


def best(run: record.RunDir, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best validation by the config's own metric: its value, step, and the checkpoint of that step if kept."""
    config = record.content(run).get("config")
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
    there = _whole(folder) is not None
    own = next((entry["path"] for entry in kept.checkpoints(run) if entry["step"] == row["step"]), None)
    return {
        "metric": metric,
        "mode": rule.get("mode"),
        "value": row[metric],
        "step": row["step"],
        "checkpoint": str(folder.relative_to(run.path)) if there else own,
    }


def _first(sources: list[dict[str, Any]], key: str) -> int | None:
    return next((source[key] for source in sources if isinstance(source.get(key), int)), None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # a name with a zero byte
        return 0
