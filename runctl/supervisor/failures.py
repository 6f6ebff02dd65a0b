"""Why an attempt failed, as a class with what to do: a pure function of what the attempt left.

What is weighed, the most certain first: what the supervisor knows itself (it ended a hung trainer, a limit was reached,
the disk is full); the error in result.json; the exception that ended the log; any other line of the log's tail that
says something; the exit code or signal. A line that only tells of another's end (a peer that is gone, a worker that
was killed) yields to a line that tells why.

The classes decide what a restart may do (`AGAIN`): what a person has to mend would fail again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runctl.light import dataclass, pattern
from runctl.supervisor.causes import CAUSES, DEFECT, IN_DATA, MEND, RETRY, SMALLER, Cause
from runctl.units import counted

KINDS = ("out_of_memory", "nan", "user_error", "data", "hang", "infrastructure", "preemption", "limit", "unknown")
AGAIN = ("hang", "infrastructure", "preemption")  # what may go better on another try
INTERRUPTIONS = ("infrastructure", "preemption")  # what came from outside, and says nothing of the run itself
PREEMPTED = "preempted"  # how the reason of an end from outside begins
_LINE = 300
_EXCEPTION = pattern(
    r"^(?:\[?rank\d+\]?:\s*)?(?P<type>(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning|Iteration|"
    r"Finite|Timeout|Refused|Reset)|NonFinite))(?::\s?(?P<message>.*))?$"
)


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed. `evidence` are sentences, what decided first; `advice` says what to do."""

    kind: str
    cause: str
    advice: str
    evidence: tuple[str, ...]
    again: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "cause": self.cause,
            "advice": self.advice,
            "evidence": list(self.evidence),
            "again": self.again,
        }


_OF_KIND = {
    "out_of_memory": SMALLER,
    "hang": "see below where it stood; resume, and if it comes again at the same place, mend that",
    "infrastructure": RETRY,
    "preemption": "resume the run: it goes on from its last checkpoint",
    "lost": "resume it, or all that are lost (runctl resume --lost): without its supervisor nobody restarts it, "
    "whatever compute.retries says",
    "limit": "raise the limit or make the run smaller, then resume",
    "user_error": MEND,
    "unknown": "read the log around its last lines: runctl logs RUN --tail 100",
}


_READING = pattern(r"__getitems?__|__iter__|_?collate\w*|collat\w+|_?fetch\w*|load_(batch|sample|example|item)")
FRAME = pattern(r'^\s+File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')


def classify(
    state: str,
    *,
    returncode: int | None,
    error: Any = None,
    tail: Sequence[str] = (),
    stopped_for: str | None = None,
    reason: str = "",
    no_room: str = "",
    lost: bool = False,
    memory_kills: int | None = None,
) -> Failure | None:
    """The class of an attempt that failed, or was stopped from outside (preemption); None for any other.

    `returncode` is as subprocess gives it, `error` result.json's, `tail` the last lines of the log, `stopped_for` what
    the supervisor ended it for (asked, timeout, budget, hang …), `reason` the verdict's, `no_room` that the disk is
    full, `lost` that the supervisor or the machine went away, `memory_kills` how many processes the kernel killed
    meanwhile for lack of memory (None: unknown). Never raises, whatever is in them.
    """
    if state == "stopped" and reason.startswith(PREEMPTED):
        by_hand = "SIGINT" in reason or stopped_for is not None  # of a supervisor that is ended itself, nobody is left
        return _made("preemption", "ended from outside", [reason], again=not by_hand)
    if state != "failed":
        return None
    lines = [line[:_LINE].rstrip() for line in tail if isinstance(line, str)]
    if stopped_for == "hang":
        return _made("hang", "no sign of life", [reason or "the supervisor ended a trainer that was silent"])
    if stopped_for in ("timeout", "budget"):
        return _made("limit", "a limit of the run was reached", [reason or f"the supervisor ended it: {stopped_for}"])
    found = [*_of_error(error), *_of_log(lines), *_of_disk(no_room), *_of_exit(returncode, memory_kills)]
    if not found and (cause := match(reason[:_LINE])):
        found = [_Sign(cause, reason[:_LINE])]
    if lost:
        said = reason or "supervisor lost"
        gone = _named("infrastructure", said, _OF_KIND["lost"], again=False)
        found = [_Sign(gone, f"what watched it went away: {said}"), *found]
    decided = next((sign for sign in found if not sign.cause.second), None) or next(iter(found), None)
    if decided is None:
        cause = _named("unknown", reason or "nothing in its records says why", _OF_KIND["unknown"])
        return _made("unknown", cause.words, [f"it ended with: {reason}"] if reason else [])
    rest = [sign.words for sign in found if sign is not decided]
    cause = decided.cause if decided.cause.words != DEFECT or not _reads_data(lines) else IN_DATA
    return _made(
        cause.kind, cause.words, list(dict.fromkeys([decided.words, *rest]))[:8], advice=cause.advice, again=cause.again
    )


def count(exits: Sequence[Any]) -> dict[str, int]:
    """How often a run was interrupted from outside, and how often it failed by itself, of its exit records."""
    ended = [entry for entry in exits if isinstance(entry, dict)]
    found = [entry for entry in ended if entry.get("state") == "failed" or kind_of(entry) == "preemption"]
    outside = sum(kind_of(entry) in INTERRUPTIONS for entry in found)
    return {"interruptions": outside, "failures": len(found) - outside}


def kind_of(end: Any) -> str | None:
    """The class of the failure in an exit record."""
    failure = end.get("failure") if isinstance(end, Mapping) else None
    kind = failure.get("kind") if isinstance(failure, Mapping) else None
    return kind if isinstance(kind, str) and kind in KINDS else None


def match(text: str) -> Cause | None:
    """The first known cause that a line tells of."""
    return next((cause for cause in CAUSES if cause.text.search(text)), None)


def exception(line: str) -> tuple[str, str] | None:
    """(type, message) if a line of a log is the last line of a traceback."""
    found = _EXCEPTION.match(line)
    return (found["type"], found["message"] or "") if found else None


def telling(lines: Sequence[str]) -> int | None:
    """The index of the line that says best why a log ended: the last exception, else the last line with a cause."""
    best = None
    for index, line in enumerate(lines):
        if exception(line) and not _second(line):
            best = index
    if best is not None:
        return best
    known = [index for index, line in enumerate(lines) if match(line)]
    return next((index for index in reversed(known) if not _second(lines[index])), known[-1] if known else None)


@dataclass(frozen=True)
class _Sign:
    """A cause, and the sentence on what speaks for it."""

    cause: Cause
    words: str


def _of_error(error: Any) -> Iterator[_Sign]:
    if not isinstance(error, dict):
        return
    kind, message = str(error.get("type") or ""), " ".join(str(error.get("message") or "").split())
    text = f"{kind}: {message}"[:_LINE] if kind else message[:_LINE]
    cause = match(text)
    if cause is not None:
        hint = error.get("hint")
        advice = hint if isinstance(hint, str) and hint and "traceback is in the log" not in hint else cause.advice
        cause = Cause(cause.kind, cause.words, advice, cause.text, cause.second, cause.again)
        yield _Sign(cause, f"the trainer's own error: {text}")


def _of_log(lines: Sequence[str]) -> Iterator[_Sign]:
    """The exception that ended the log, then what else the tail says, the last line first."""
    last = max((index for index, line in enumerate(lines) if exception(line)), default=None)
    if last is not None and (cause := match(lines[last])):
        yield _Sign(cause, f"the log's last exception: {lines[last].strip()}")
    for index in range(len(lines) - 1, -1, -1):
        quoted = index > 0 and FRAME.match(lines[index - 1]) is not None  # a line of code in a traceback
        if index != last and not quoted and (cause := match(lines[index].strip())):
            behind = len(lines) - 1 - index
            where = "the log's last line" if not behind else f"{counted(behind, 'line')} before the log's end"
            yield _Sign(cause, f"{where}: {lines[index].strip()}")


def _of_disk(no_room: str) -> Iterator[_Sign]:
    if no_room and (cause := match("No space left on device")):
        yield _Sign(cause, no_room)


def _of_exit(returncode: int | None, memory_kills: int | None) -> Iterator[_Sign]:
    """What a signal or an exit code says; a shell adds 128 to the signal of its child."""
    if returncode is None:
        return
    number = -returncode if returncode < 0 else returncode - 128 if 128 < returncode < 128 + 65 else 0
    if number == signal.SIGKILL and memory_kills:
        advice = "ask for more compute.memory, or use fewer and smaller loader workers"
        killed = "a process" if memory_kills == 1 else f"{memory_kills} processes"
        words = f"SIGKILL, and the kernel killed {killed} for lack of memory meanwhile"
        yield _Sign(_named("out_of_memory", "killed by the kernel: the machine's memory is full", advice), words)
    elif number == signal.SIGKILL:
        words = "SIGKILL, which runctl did not send"
        words += "; the kernel has killed nothing for lack of memory meanwhile" if memory_kills == 0 else ""
        yield _Sign(_named("infrastructure", "killed from outside", RETRY), words)
    elif number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        name = signal.Signals(number).name
        words = f"{name}, which runctl did not send"
        by_hand = False if number == signal.SIGINT else None
        cause = _named("preemption", f"ended from outside by {name}", _OF_KIND["preemption"], again=by_hand)
        yield _Sign(cause, words)
    elif number == signal.SIGBUS:
        advice = "give the container more shared memory (--shm-size), or look at the disk of a mapped file"
        yield _Sign(_named("infrastructure", "memory that is mapped could not be read", advice, again=False), "SIGBUS")
    elif number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE):
        name = signal.Signals(number).name
        advice = "PYTHONFAULTHANDLER=1 shows where; check the versions of native libraries"
        yield _Sign(_named("unknown", f"a native library crashed ({name})", advice), f"it ended by {name}")
    elif returncode in (126, 127):
        advice = "name a program that is there and may be executed"
        yield _Sign(_named("user_error", "the program could not be started", advice), f"exit {returncode}")


def _reads_data(lines: Sequence[str]) -> bool:
    """Whether the traceback that ended a log leads through what reads data."""
    for line in reversed(lines):
        if line.startswith("Traceback (most recent call last)"):
            return False
        found = FRAME.match(line)
        if (found and _READING.fullmatch(found["function"] or "")) or "in DataLoader worker process" in line:
            return True
    return False


def _second(line: str) -> bool:
    cause = match(line)
    return cause is not None and cause.second


def _named(kind: str, words: str, advice: str, *, again: bool | None = None) -> Cause:
    return Cause(kind, words, advice, pattern(r"(?!)"), again=again)


def _made(
    kind: str, cause: str, evidence: Sequence[str], *, advice: str | None = None, again: bool | None = None
) -> Failure:
    may = kind in AGAIN if again is None else again
    return Failure(kind, cause, advice or _OF_KIND[kind], tuple(evidence), may)
