"""Why a run is as it is: the last error in its context, its class, what speaks for that, and what to do."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

from runctl import logs, record, status
from runctl.fields import number as figure
from runctl.fields import text, whole
from runctl.light import asdict, dataclass
from runctl.supervisor import ending, failures
from runctl.supervisor.failures import FRAME, Failure
from runctl.supervisor.verdict import SUPERVISOR_LOST
from runctl.units import counted, format_bytes

_BEFORE, _AFTER = 12, 4
_LINE = 500
_STACK_LINES = 40
_CODE = 120
_ROWS, _LAST = 400, 5


@dataclass(frozen=True)
class Line:
    """A line of the log; `number` counts from the end: 1 is the last."""

    number: int
    text: str


@dataclass(frozen=True)
class Why:
    """One attempt explained. `failure` is None where it did not fail; `where` is the place in the program's own code
    at which the error was raised, `measured` what it measured last, `saved` what of it a resume has; `context` are
    lines of the log, of which `at` is the one that says most; `stacks` is where a hung trainer stood."""

    run: str
    attempt: int
    state: str
    reason: str
    step: int | None
    failure: Failure | None
    where: str
    measured: tuple[str, ...]
    saved: str
    context: tuple[Line, ...]
    at: int | None
    stacks: tuple[str, ...]
    interruptions: int
    failures: int
    commands: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "attempt": self.attempt,
            "state": self.state,
            "reason": self.reason,
            "step": self.step,
            "failure": self.failure.to_json() if self.failure else None,
            "where": self.where,
            "measured": list(self.measured),
            "saved": self.saved,
            "context": {"at": self.at, "lines": [asdict(line) for line in self.context]},
            "stacks": list(self.stacks),
            "attempts": {"interruptions": self.interruptions, "failures": self.failures},
            "commands": list(self.commands),
        }


def explain(run: record.RunDir, attempt: int | None = None) -> Why:
    """Explain the newest attempt, or the one asked for; raises UsageError for an attempt that is not there.

    What exit.json says is taken; where it says nothing (a lost supervisor, an older runctl), the same is judged anew.
    """
    path = logs.find(run, attempt)
    found = status.observe(run)
    number = attempt or found.attempt
    files = run.attempt(number)
    end = record.read_object(files.exit)
    newest = number == found.attempt
    state = found.state if newest else text(end, "state") or "unknown"
    reason = found.reason if newest else text(end, "reason") or ""
    tail = ending.tail(path)
    error = record.read_object(files.result).get("error")
    failure = _failure(end, error, tail, state, reason)
    at = failures.telling(tail)
    begin = max(0, (len(tail) if at is None else at) - _BEFORE)
    shown = tail[begin : len(tail) if at is None else at + 1 + _AFTER]
    ends = [record.read_json(entry.exit) for entry in run.attempts()]
    counts = failures.count(ends)
    return Why(
        run=run.name,
        attempt=number,
        state=state,
        reason=reason,
        step=found.step if newest else whole(end, "step"),
        failure=failure,
        where=_where(tail, at, error, text(record.read_object(run.run), "project") or ""),
        measured=_measured(run, files, failure.kind if failure else state),
        saved=_saved(found) if newest else "",
        context=tuple(Line(len(tail) - begin - index, line[:_LINE]) for index, line in enumerate(shown)),
        at=None if at is None else at - begin,
        stacks=_stacks(files),
        interruptions=counts["interruptions"],
        failures=counts["failures"],
        commands=_commands(found, failure),
    )


def _where(tail: list[str], at: int | None, error: Any, project: str) -> str:
    """`data.py:88 in collate: row["labels"]`: of the traceback above a line of the log the innermost frame that is no
    library's; else where a result says."""
    first, own = "", ""
    for index in range((at or 0) - 1, -1, -1):
        if tail[index].startswith("Traceback (most recent call last)"):
            break
        if not (found := FRAME.match(tail[index])):
            continue
        code = tail[index + 1].strip() if index + 1 < len(tail) and not FRAME.match(tail[index + 1]) else ""
        file = found["file"].removeprefix(f"{project}/") if project else found["file"]
        place = f"{file}:{found['line']}" + (f" in {found['function']}" if found["function"] else "")
        words = place + (f": {code[:_CODE]}" if code and set(code) - set("^~ ") else "")
        first = first or words
        if not _library(found["file"]):
            own = words
            break
    return own or first or text(error, "where") or ""


def _library(file: str) -> bool:
    parts = Path(file).parts
    inside = any(name in parts for name in ("site-packages", "dist-packages")) or file.startswith("<")
    return inside or any(file.startswith(f"{place}/lib/python") for place in (sys.prefix, sys.base_prefix))


def _measured(run: record.RunDir, files: record.Attempt, kind: str) -> tuple[str, ...]:
    """What the attempt measured last, as far as it speaks of such an end: losses, or memory."""
    if kind == "out_of_memory":
        size = figure(record.read_object(files.heartbeat), "memory_bytes")
        return (f"memory at its last heartbeat: {format_bytes(size)}",) if size else ()
    if kind not in ("nan", "killed"):
        return ()
    names = ("train/loss", "loss", "val/loss")
    rows = islice(logs.backwards(run.metrics, logs.size(run.metrics)), _ROWS)
    found: dict[str, list[str]] = {}
    for row in map(logs.row, rows):
        if row.get("attempt") != files.number:
            continue
        for name in names:
            if name in row and len(found.setdefault(name, [])) < _LAST:
                value = figure(row, name)
                said = "not finite" if value is None else f"{value:.4g}"
                found[name].append(f"{said} at step {whole(row, 'step') or 0:,}")
    return tuple(f"{name}: {', '.join(reversed(values))}" for name, values in found.items())


def _saved(found: status.RunStatus) -> str:
    """What a resume would go on from; "" while the run goes on, or has done all."""
    if found.active or found.state == "succeeded" or found.damage:
        return ""
    if found.checkpoint_step is None:
        nothing = "no checkpoint of it is known: a resume starts the program again"
        return nothing if found.task == "command" else "no checkpoint: a resume begins at step 0"
    behind = (found.step or 0) - found.checkpoint_step
    lost = f", {counted(behind, 'step')} before its end" if behind > 0 else ", of its last step"
    return f"checkpoint of step {found.checkpoint_step:,}{lost}"


def _failure(end: dict[str, Any], error: Any, tail: list[str], state: str, reason: str) -> Failure | None:
    """The recorded failure if it is whole; else judged from what is there."""
    said: Any = end.get("failure")
    if isinstance(said, dict) and said.get("kind") in failures.KINDS:
        words = [line for line in said["evidence"] if isinstance(line, str)] if _is_list(said.get("evidence")) else []
        cause, advice = text(said, "cause") or "", text(said, "advice") or ""
        return Failure(said["kind"], cause, advice, tuple(words), said.get("again") is True)
    code, number = whole(end, "exit_code"), whole(end, "signal")
    return failures.classify(
        state,
        returncode=-number if number else code,
        error=error,
        tail=tail,
        reason=reason,
        lost=SUPERVISOR_LOST in reason,
    )


def _stacks(files: record.Attempt) -> tuple[str, ...]:
    """Where a hung attempt stood; what a stopped process wrote only when it was woken stands in its own file."""
    lines = logs.last_lines(files.hang, 10_000)
    own = logs.last_lines(files.stacks, 10_000) if lines else []
    late = [] if set(own) <= set(lines) else [f"{files.stacks.name}:", *own]
    return tuple([*(line for line in lines if line.strip()), *late][:_STACK_LINES])


def _commands(found: status.RunStatus, failure: Failure | None) -> tuple[str, ...]:
    """What makes sense next; a run whose run.json is gone cannot be resumed."""
    name, state = found.run, found.state
    if state in status.ACTIVE:
        return (f"runctl logs -f {name}", f"runctl status {name}")
    if state == "succeeded":
        return (f"runctl status {name}",)
    if failure is None:
        resumed = state in ("stopped", "killed") and not found.damage
        return (f"runctl status {name}", f"runctl resume {name}") if resumed else ()
    mended = failure.again or failure.kind in ("limit", "out_of_memory") or SUPERVISOR_LOST in found.reason
    again = (f"runctl resume {name}",) if mended and not found.damage else ()
    return (f"runctl logs {name} --tail 100", *again)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
