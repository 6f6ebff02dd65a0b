"""A notice in words: what happened, where the run stands, and what to type next. Secrets in reasons are hidden first:
what is sent leaves the machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from runctl import page, record, status
from runctl.fields import number, text, whole
from runctl.journal import COUNTS
from runctl.light import dataclass
from runctl.masking import spans
from runctl.masking.known import of_environment
from runctl.notices import targets
from runctl.shown import plain
from runctl.supervisor.summary import spent_seconds
from runctl.units import counted, format_duration, format_usd

_LETTERS = 1_500
_METRICS = 8
_SAYS = {
    "started": "{run} runs: its first step is done",
    "guard": "{run}: guard {guard} has tripped",
    "budget": "{run}: {guard}",
    "disk": "{run}: the disk will be full",
    "restarted": "{run} is started again",
    "finished": "{run} has finished",
    "failed": "{run} failed",
    "killed": "{run} was ended by a guard",
    "stopped": "{run} was stopped",
    "lost": "{run} is lost",
}
_NEXT = {
    "started": ["runctl status {run} --watch"],
    "guard": ["runctl status {run}", "runctl logs {run} --tail 50"],
    "budget": ["runctl status {run}", "runctl stop {run}"],
    "disk": ["runctl prune", "runctl status {run}"],
    "restarted": ["runctl why {run} --attempt {before}", "runctl status {run} --watch"],
    "finished": ["runctl pull {run} results"],
    "failed": ["runctl why {run}", "runctl resume {run}"],
    "killed": ["runctl logs {run} --tail 50", "runctl resume {run}"],
    "stopped": ["runctl resume {run}"],
    "lost": ["runctl status {run}", "runctl resume {run}"],
}


@dataclass(frozen=True)
class Notice:
    kind: str
    title: str
    body: str


def test() -> Notice:
    """What `runctl notices test` sends."""
    body = f"Sent by `runctl notices test` on {socket.gethostname()}: notices of runs arrive here."
    return Notice("test", "runctl: a test", body)


def compose(run: record.RunDir, attempt: int, kind: str, row: Mapping[str, Any]) -> Notice:
    """The words for an event of a run; what its files do not say is left out. Never raises for damaged files."""
    found = status.read(run)
    content = record.content(run, attempt)
    names = {"run": run.name, "guard": text(row, "guard") or "a guard", "before": max(1, attempt - 1)}
    title = _SAYS.get(kind, "{run}").format(**names)
    if kind == "started" and attempt > 1:
        title = f"{run.name} goes on: attempt {attempt} has done its first step"
    lines = [text(row, "reason") or "", _did(row), _stands(run, found, row)]
    lines += _results(run) if kind == "finished" else []
    if row.get("more"):
        lines.append(f"{counted(whole(row, 'more') or 0, 'time')} more since the last notice of this guard")
    lines.append(_where(content))
    lines += [f"next: {command.format(**names)}" for command in _NEXT.get(kind, [])]
    values = of_environment(addresses=[one.env for one in targets.recorded(content)])
    clean = [plain(spans.hidden(line[:_LETTERS], values)) for line in (title, *lines) if line]
    return Notice(kind, " ".join(clean[0].split()), "\n".join(clean[1:]))


def _did(row: Mapping[str, Any]) -> str:
    did = {"checkpoint": "a checkpoint was asked for", "stop": "it saves and ends", "kill": "it is ended at once"}
    return did.get(text(row, "do") or "", "") if row.get("event") == "guard_tripped" else ""


def _stands(run: record.RunDir, found: status.RunStatus, row: Mapping[str, Any]) -> str:
    """`step 300 of 1,000 (30%), loss 0.31, 2h03m in all, $4.21 so far`."""
    step = max((one for one in (whole(row, "step"), found.step) if one is not None), default=None)
    said = []
    if step is not None:
        total = found.total_steps
        said.append(f"step {step:,}" + (f" of {total:,} ({100 * min(1.0, step / total):.0f}%)" if total else ""))
    said += [] if found.loss is None else [f"loss {found.loss:.4g}"]
    seconds = spent_seconds(run) or found.seconds
    if found.active and found.seconds is not None:
        seconds = max(seconds or 0.0, found.seconds)
    said += [] if seconds is None else [f"{format_duration(seconds)} in all"]
    said += [] if not found.cost_usd else [f"{format_usd(found.cost_usd)} so far"]
    return ", ".join(said)


def _results(run: record.RunDir) -> list[str]:
    """The last validation, each metric beside its baselines."""
    row = page.last_validation(run)
    found = []
    for key in [key for key in row if key.startswith("val/") and key.count("/") == 1]:
        name, value = key.removeprefix("val/"), number(row, key)
        if value is None or name in COUNTS:
            continue
        rivals = {
            other.split("/")[1]: number(row, other)
            for other in row
            if other.startswith("baseline/") and other.count("/") == 2 and other.endswith(f"/{name}")
        }
        beside = ", ".join(f"{rival.replace('_', ' ')} {figure:.4g}" for rival, figure in rivals.items() if figure)
        found.append(f"{key} {value:.4g}" + (f" ({beside})" if beside else ""))
    return found[:_METRICS]


def _where(content: Mapping[str, Any]) -> str:
    project = text(content, "project")
    return f"on {socket.gethostname()}" + (f" in {os.path.basename(project)}" if project else "")
