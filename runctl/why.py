"""Why a run is as it is: the last error in its context, its class, what speaks for that, and what to do."""

from __future__ import annotations

from typing import Any

from runctl import logs, record, status
from runctl.fields import text, whole
from runctl.light import asdict, dataclass
from runctl.supervisor import ending, failures
from runctl.supervisor.failures import Failure

_BEFORE, _AFTER = 12, 4
_LINE = 500
_STACK_LINES = 40


@dataclass(frozen=True)
class Line:
    """A line of the log; `number` counts from the end: 1 is the last."""

    number: int
    text: str


@dataclass(frozen=True)
class Why:
    """One attempt explained. `failure` is None where it did not fail; `context` are lines of the log, of which `at`
    is the one that says most; `stacks` is where a hung trainer stood."""

    run: str
    attempt: int
    state: str
    reason: str
    step: int | None
    failure: Failure | None
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
    failure = _failure(end, record.read_object(files.result).get("error"), tail, state, reason)
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
        context=tuple(Line(len(tail) - begin - index, line[:_LINE]) for index, line in enumerate(shown)),
        at=None if at is None else at - begin,
        stacks=_stacks(files),
        interruptions=counts["interruptions"],
        failures=counts["failures"],
        commands=_commands(run.name, found.state, failure),
    )


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
        lost="supervisor lost" in reason,
    )


def _stacks(files: record.Attempt) -> tuple[str, ...]:
    """Where a hung attempt stood; what a stopped process wrote only when it was woken stands in its own file."""
    lines = logs.last_lines(files.hang, 10_000)
    own = logs.last_lines(files.stacks, 10_000) if lines else []
    late = [] if set(own) <= set(lines) else [f"{files.stacks.name}:", *own]
    return tuple([*(line for line in lines if line.strip()), *late][:_STACK_LINES])


def _commands(name: str, state: str, failure: Failure | None) -> tuple[str, ...]:
    if state in status.ACTIVE:
        return (f"runctl logs -f {name}", f"runctl status {name}")
    if failure is None or state == "succeeded":
        return (f"runctl status {name}",)
    again = (f"runctl resume {name}",) if failure.again or failure.kind in ("limit", "out_of_memory") else ()
    return (f"runctl logs {name} --tail 100", *again)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
